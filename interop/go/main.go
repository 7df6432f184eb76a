// What a Go program sees of a cluster: its own resolver finds the nodes in etcd, and a client generated from
// ggroupcache.proto alone asks them. scripts/interop builds and runs it.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/naming/endpoints"
	"go.etcd.io/etcd/clientv3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pb "ggroupcachepb"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(servers string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(servers, ","), DialTimeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer etcd.Close()

	// What the nodes have registered, as Go's package reads it.
	manager, err := endpoints.NewManager(etcd, "GGroupCache")
	if err != nil {
		return err
	}
	listed, err := manager.List(ctx)
	if err != nil {
		return err
	}
	for key, endpoint := range listed {
		fmt.Println("listed:", key, endpoint.Addr)
	}
	if len(listed) != 3 {
		return fmt.Errorf("%d entries are listed, and there are 3 nodes", len(listed))
	}

	// etcd:///GGroupCache, by Go's resolver, over all nodes in turn.
	builder, err := resolver.NewBuilder(etcd)
	if err != nil {
		return err
	}
	connection, err := grpc.DialContext(ctx, "etcd:///GGroupCache", grpc.WithResolvers(builder), grpc.WithInsecure(),
		grpc.WithBlock(), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := pb.NewGGroupCacheClient(connection)
	answered := map[string]bool{}
	for deadline := time.Now().Add(10 * time.Second); len(answered) < 3 && time.Now().Before(deadline); {
		var from peer.Peer
		answer, err := client.Get(ctx, &pb.Request{Group: "scores", Key: "张三"}, grpc.Peer(&from))
		if err != nil {
			return err
		}
		if string(answer.Value) != "333" {
			return fmt.Errorf("张三 is %q, and should be 333", answer.Value)
		}
		answered[from.Addr.String()] = true
	}
	if len(answered) != 3 {
		return fmt.Errorf("only these have answered: %v", answered)
	}
	fmt.Println("answered: 张三 = 333, by each of the 3 nodes")
	for _, one := range []struct {
		group, key string
		code       codes.Code
	}{
		{"scores", "赵六", codes.NotFound},
		{"nobody", "张三", codes.NotFound},
		{"scores", "", codes.InvalidArgument},
		{"scores", strings.Repeat("x", 1025), codes.InvalidArgument},
	} {
		_, err := client.Get(ctx, &pb.Request{Group: one.group, Key: one.key})
		if status.Code(err) != one.code {
			return fmt.Errorf("group %q, %d bytes of key: %v, and %v was due", one.group, len(one.key), err, one.code)
		}
	}
	fmt.Println("answered: NOT_FOUND and INVALID_ARGUMENT where they are due")

	// An entry of a service that is none of ours, as Go's package writes it. It stays, for the nodes to be asked about.
	if err := manager.AddEndpoint(ctx, "GGroupCache/10.0.0.7:80", endpoints.Endpoint{Addr: "10.0.0.7:80"}); err != nil {
		return err
	}
	fmt.Println("added: GGroupCache/10.0.0.7:80")
	return nil
}
