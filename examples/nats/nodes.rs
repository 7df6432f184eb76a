//! The nodes of a cluster, as somebody sees them who has keys dropped: one call for each group, at whichever node answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::{StreamExt as _, stream};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::message::{Change, What};

/// Longer than a node's `limits.request_timeout`, so that its report comes and not our own timeout.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Groups that are told at the same time.
const CALLS_MAX: usize = 4;
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What became of a group's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every node has dropped them.
    Dropped,
    /// Some node has not, or none answered: to be asked again.
    Later,
    /// No node has such a group.
    NoSuchGroup,
}

pub struct Nodes {
    client: Client,
    urls: Vec<Url>,
    /// Who is asked first: whoever answered last.
    first: AtomicUsize,
}

/// An answer's body: a report, or a problem.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    complete: bool,
    #[serde(default)]
    failed: Vec<Failed>,
    #[serde(default)]
    code: String,
}

#[derive(Deserialize)]
struct Failed {
    node: String,
    error: String,
}

/// What one node says.
enum Said {
    Complete,
    Incomplete(Vec<Failed>),
    NoSuchGroup,
}

impl Nodes {
    pub fn new(urls: Vec<Url>, token: Option<&str>) -> anyhow::Result<Self> {
        ensure!(!urls.is_empty(), "there are no nodes");
        let mut headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).context("the token is none")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, urls, first: AtomicUsize::new(0) })
    }

    /// Has everything dropped that `changes` name: what became of each group.
    pub async fn drop_all(&self, changes: impl IntoIterator<Item = Change>) -> BTreeMap<String, Outcome> {
        let mut keys = BTreeMap::<String, BTreeSet<Vec<u8>>>::new();
        let mut whole = BTreeSet::new();
        for Change { group, what } in changes {
            let keys = keys.entry(group.clone()).or_default();
            match what {
                What::Key(key) => drop(keys.insert(key)),
                What::All => drop(whole.insert(group)),
            }
        }
        let calls = keys.into_iter().map(|(group, keys)| {
            let is_whole = whole.contains(&group);
            async move {
                let outcome = self.drop_in(&group, &body(&keys, is_whole)).await;
                (group, outcome)
            }
        });
        stream::iter(calls).buffer_unordered(CALLS_MAX).collect().await
    }

    /// Asks the nodes in turn, until one answers.
    async fn drop_in(&self, group: &str, body: &Value) -> Outcome {
        let first = self.first.load(Ordering::Relaxed);
        let mut strangers = 0;
        for turn in 0..self.urls.len() {
            let at = (first + turn) % self.urls.len();
            let node = &self.urls[at];
            match self.ask(node, group, body).await {
                Ok(Said::Complete) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Outcome::Dropped;
                }
                Ok(Said::Incomplete(failed)) => {
                    for Failed { node, error } in failed {
                        tracing::warn!(group, node, error, "a node did not drop the keys; they come again");
                    }
                    // Perhaps another one gets through to it.
                    self.first.store(at + 1, Ordering::Relaxed);
                    return Outcome::Later;
                }
                Ok(Said::NoSuchGroup) => strangers += 1,
                Err(error) => {
                    tracing::warn!(group, %node, error = format!("{error:#}"), "a node did not answer")
                }
            }
        }
        if strangers == self.urls.len() { Outcome::NoSuchGroup } else { Outcome::Later }
    }

    async fn ask(&self, node: &Url, group: &str, body: &Value) -> anyhow::Result<Said> {
        let url = node.join(&format!("/api/v1/groups/{group}/keys:invalidate"))?;
        let response = self.client.post(url).body(body.to_string()).send().await;
        let response = response.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        let answer = read(response).await.with_context(|| format!("status {status}"))?;
        Ok(match (status, answer) {
            (StatusCode::OK, Answer { complete: true, .. }) => Said::Complete,
            (StatusCode::OK, Answer { failed, .. }) => Said::Incomplete(failed),
            (StatusCode::NOT_FOUND, Answer { code, .. }) if code == "group_not_found" => Said::NoSuchGroup,
            (_, Answer { code, .. }) => bail!("status {status}, {code}"),
        })
    }
}

/// What is sent. Keys always in base64: so the length has a bound that text with its escapes has not, and 2,000 keys of
/// 1,024 bytes are within the 4 MiB that a node reads.
fn body(keys: &BTreeSet<Vec<u8>>, is_whole: bool) -> Value {
    if is_whole {
        return json!({"all": true});
    }
    let keys: Vec<_> = keys.iter().map(|key| json!({"b64": BASE64_URL_SAFE_NO_PAD.encode(key)})).collect();
    json!({ "keys": keys })
}

async fn read(mut response: Response) -> anyhow::Result<Answer> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        ensure!(body.len() + chunk.len() <= ANSWER_BYTES_MAX, "more than {ANSWER_BYTES_MAX} bytes");
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).context("the answer is not a node's")
}
