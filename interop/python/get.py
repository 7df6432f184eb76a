"""What a client sees that was generated from ggroupcache.proto alone. scripts/interop generates it and runs this."""

import sys

import ggroupcache_pb2 as messages
import ggroupcache_pb2_grpc as services
import grpc


def code(client, **request):
    try:
        client.Get(messages.Request(**request), timeout=5)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


for address in sys.argv[1:]:
    with grpc.insecure_channel(address) as channel:
        client = services.GGroupCacheStub(channel)
        value = client.Get(messages.Request(group="scores", key="李四"), timeout=5).value
        assert value == b"444", (address, value)
        absent = code(client, group="scores", key="赵六")
        assert absent == grpc.StatusCode.NOT_FOUND, (address, absent)
        empty = code(client, group="scores", key="")
        assert empty == grpc.StatusCode.INVALID_ARGUMENT, (address, empty)
        print(f"{address}: 李四 = 444; NOT_FOUND and INVALID_ARGUMENT where they are due")
