// A node of Go's groupcache that answers reads of a group over HTTP, for scripts/bench/http to compare with.
//
//	groupcache -listen 127.0.0.1:8001 -peers http://127.0.0.1:8001,http://127.0.0.1:8002
//
// GET /values/KEY answers the value. Which one it is does not matter: 100 bytes, whatever the key, made in memory. The
// first of the peers is the node itself; without peers it owns every key.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"strings"

	"github.com/golang/groupcache"
)

// Connections to each peer that are kept. Go keeps 2 by default, and makes a new one for nearly each request then.
const idlePerPeer = 256

func main() {
	listen := flag.String("listen", "127.0.0.1:8001", "where clients and peers are answered")
	peers := flag.String("peers", "", "the nodes' URLs, this one's first")
	flag.Parse()

	value := []byte(strings.Repeat("x", 100))
	group := groupcache.NewGroup("values", 256<<20, groupcache.GetterFunc(
		func(_ context.Context, _ string, dest groupcache.Sink) error { return dest.SetBytes(value) }))

	mux := http.NewServeMux()
	if *peers != "" {
		nodes := strings.Split(*peers, ",")
		pool := groupcache.NewHTTPPoolOpts(nodes[0], &groupcache.HTTPPoolOptions{})
		transport := &http.Transport{MaxIdleConnsPerHost: idlePerPeer}
		pool.Transport = func(context.Context) http.RoundTripper { return transport }
		pool.Set(nodes...)
		mux.Handle("/_groupcache/", pool)
	}
	mux.HandleFunc("/values/", func(w http.ResponseWriter, r *http.Request) {
		var found groupcache.ByteView
		key := strings.TrimPrefix(r.URL.Path, "/values/")
		if err := group.Get(r.Context(), key, groupcache.ByteViewSink(&found)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		// Its error is the client's, who has gone.
		_, _ = found.WriteTo(w)
	})
	log.Fatal(http.ListenAndServe(*listen, mux))
}
