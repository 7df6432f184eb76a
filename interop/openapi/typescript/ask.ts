// Asks a node through types that are generated from the OpenAPI document.
import assert from "node:assert/strict";
import { argv } from "node:process";
import createClient from "openapi-fetch";
import type { components, paths } from "./ggcache.js";

const client = createClient<paths>({ baseUrl: argv[2] });
const key = "/api/v1/groups/{group}/keys/{key}";
const group = "scores";
// A value is any bytes, whatever its media type.
const parseAs = "arrayBuffer";

const read = await client.GET(key, { params: { path: { group, key: "张三" } }, parseAs });
assert(read.data);
assert.equal(new TextDecoder().decode(read.data), "333");

const absent = await client.GET(key, { params: { path: { group, key: "no/body" } }, parseAs });
assert.equal(absent.response.status, 404);
const problem: components["schemas"]["Problem"] | undefined = absent.error;
assert.equal(problem?.code, "key_not_found");

const blob = await client.GET("/api", { params: { query: { key_b64: "_wA", group: "blobs" } }, parseAs });
assert(blob.data);
assert.deepEqual([...new Uint8Array(blob.data)], [0, 255, 10]);

const head = await client.HEAD(key, { params: { path: { group, key: "张三" } } });
const etag = head.response.headers.get("etag");
assert(head.response.ok && etag);
const again = await client.GET(key, {
  params: { path: { group, key: "张三" }, header: { "If-None-Match": etag } },
  parseAs,
});
assert.equal(again.response.status, 304);

const cluster = await client.GET("/api/v1/cluster");
assert.equal(cluster.data?.nodes.length, 1);
assert(cluster.data.nodes[0]?.me);

const dropped = await client.POST("/api/v1/groups/{group}/keys:invalidate", {
  params: { path: { group } },
  body: { keys: ["张三", { b64: "_wA" }] },
});
assert(dropped.data?.complete);
assert.equal(dropped.data.acknowledged[0]?.dropped, 1);

const batch = await client.POST("/api/v1/groups/{group}/keys:batchGet", {
  params: { path: { group: "pupils" } },
  body: { keys: ["李四", "nobody"] },
});
const [found, missing] = batch.data?.results ?? [];
assert.equal(found?.key, "李四");
assert.deepEqual([found.encoding, found.value], ["json", { id: 2, score: 444 }]);
assert.equal(missing?.error?.code, "key_not_found");

console.log("TypeScript: values, problems, bytes, 304, cluster, invalidation and batch are right");
