"""Asks a node through a client that is generated from the OpenAPI document."""

import sys

from ggcache_client import Client
from ggcache_client.api.cluster import get_cluster
from ggcache_client.api.keys import batch_get_keys, get_key, get_key_by_query, head_key, invalidate_keys
from ggcache_client.models import (
    BatchRequest,
    BatchResponse,
    ClusterReport,
    Invalidation,
    InvalidationReport,
    KeyBytes,
    Problem,
)
from ggcache_client.types import File

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)

read = get_key.sync("scores", "张三", client=client)
assert isinstance(read, File) and read.payload.read() == b"333", read

absent = get_key.sync("scores", "no/body", client=client)
assert isinstance(absent, Problem) and (absent.status, absent.code) == (404, "key_not_found"), absent

blob = get_key_by_query.sync(key_b64="_wA", group="blobs", client=client)
assert isinstance(blob, File) and blob.payload.read() == b"\0\xff\n", blob

head = head_key.sync_detailed("scores", "张三", client=client)
assert head.status_code == 200 and not head.content, head
again = get_key.sync_detailed("scores", "张三", client=client, if_none_match=head.headers["etag"])
assert again.status_code == 304, again

cluster = get_cluster.sync(client=client)
assert isinstance(cluster, ClusterReport) and [node.me for node in cluster.nodes] == [True], cluster

keys = ["张三", KeyBytes(b64="_wA")]
dropped = invalidate_keys.sync("scores", body=Invalidation(keys=keys), client=client)
assert isinstance(dropped, InvalidationReport) and dropped.complete, dropped
assert dropped.acknowledged[0].dropped == 1, dropped

batch = batch_get_keys.sync("pupils", body=BatchRequest(keys=["李四", "nobody"]), client=client)
assert isinstance(batch, BatchResponse), batch
found, missing = batch.results
assert (found.key, found.encoding, found.value) == ("李四", "json", {"id": 2, "score": 444}), found
assert missing.error.code == "key_not_found", missing

print("Python: values, problems, bytes, 304, cluster, invalidation and batch are right")
