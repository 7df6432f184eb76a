//! A consumer of NATS JetStream that has the keys of changed rows dropped, at every node of a cluster.
//!
//! A message is acknowledged when every node has dropped its keys, and comes again until then: at least once, which is
//! enough, because dropping a key twice is harmless. docs/queue.md tells what that guarantees.
//!
//! ```sh
//! cargo run --example nats -- --stream CHANGES --node http://127.0.0.1:8000 --table students=scores:name
//! ```

use std::{collections::BTreeMap, io, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use async_nats::{
    ConnectOptions,
    jetstream::{
        self, AckKind, Message,
        consumer::{AckPolicy, pull},
        stream::Stream,
    },
};
use clap::Parser;
use futures_util::{StreamExt as _, future::join_all};
use nats::{
    message::{Table, read},
    nodes::{Nodes, Outcome},
};
use reqwest::Url;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

mod nats {
    pub(super) mod message;
    pub(super) mod nodes;
}

/// The wait before a message comes again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Batches that may wait for their next turn before the queue holds the rest back.
const BATCHES_WAITING_MAX: u32 = 10;
/// How often the server says that it is there, and how long one request for messages holds.
const HEARTBEAT: Duration = Duration::from_secs(5);
const PULL: Duration = Duration::from_secs(30);

/// Has the keys of changed rows dropped, as a stream of NATS JetStream names them. A token with the scope `invalidate` is
/// taken from GGCACHE_TOKEN.
#[derive(Parser)]
struct Arguments {
    /// A server of NATS; may be given several times.
    #[arg(long, default_value = "nats://127.0.0.1:4222")]
    nats: Vec<String>,
    /// The stream, which has to be there.
    #[arg(long)]
    stream: String,
    /// The durable consumer's name. Processes that share it share the messages.
    #[arg(long, default_value = "ggcache")]
    durable: String,
    /// The subjects that are read; all of the stream by default.
    #[arg(long, default_value = "")]
    subject: String,
    /// A node's api plane, `http://HOST:PORT`; may be given several times.
    #[arg(long = "node", required = true)]
    nodes: Vec<Url>,
    /// Which group reads a table: TABLE=GROUP:COLUMN, with :base64 after it for a column of bytes.
    #[arg(long = "table")]
    tables: Vec<Table>,
    /// Messages that are handled together.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// After how long a message comes again of which nothing was heard: more than all nodes together may take.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    ack_wait: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the consumer ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    // What reqwest's TLS goes by, if a node is asked by https. A second one would only be refused.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stopping = on_signals()?;
    let token = std::env::var("GGCACHE_TOKEN").ok();
    let nodes = Nodes::new(arguments.nodes.clone(), token.as_deref())?;
    let client = ConnectOptions::new()
        .name("ggcache invalidations")
        .event_callback(async |event| tracing::info!(%event, "the connection to NATS has changed"))
        .connect(&arguments.nats)
        .await
        .context("NATS can't be reached")?;
    let stream = jetstream::new(client.clone()).get_stream(&arguments.stream).await;
    let stream = stream.with_context(|| format!("there is no stream {:?}", arguments.stream))?;
    while !stopping.is_cancelled() {
        if let Err(error) = follow(&stream, &arguments, &nodes, &stopping).await {
            tracing::warn!(error = format!("{error:#}"), "messages can't be read; trying again");
            let pause = tokio::time::sleep(Duration::from_secs(1));
            stopping.run_until_cancelled(pause).await;
        }
    }
    // Acknowledgements may still be on their way. What has come and was not handled comes again.
    client.flush().await.context("NATS was not told of all that is done")?;
    tracing::info!("the consumer ends");
    Ok(())
}

/// Ctrl-C, or what a supervisor sends.
fn on_signals() -> io::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stopping = CancellationToken::new();
    let token = stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        token.cancel();
    });
    Ok(stopping)
}

/// Handles batches until `stopping` is cancelled; the one under way is finished.
async fn follow(
    stream: &Stream,
    arguments: &Arguments,
    nodes: &Nodes,
    stopping: &CancellationToken,
) -> anyhow::Result<()> {
    let config = pull::Config {
        durable_name: Some(arguments.durable.clone()),
        filter_subject: arguments.subject.clone(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: arguments.ack_wait,
        max_ack_pending: i64::from(u32::from(arguments.batch) * BATCHES_WAITING_MAX),
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.context("the consumer can't be made")?;
    let batch = usize::from(arguments.batch);
    let messages = consumer.stream().max_messages_per_batch(batch).heartbeat(HEARTBEAT).expires(PULL);
    // Whatever has come, and no waiting until a batch is full.
    let mut batches = messages.messages().await?.ready_chunks(batch);
    tracing::info!(stream = arguments.stream, "messages are read");
    while let Some(Some(batch)) = stopping.run_until_cancelled(batches.next()).await {
        let mut failed = None;
        let messages = batch.into_iter().filter_map(|message| match message {
            Ok(message) => Some(message),
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        let messages = messages.collect();
        handle(messages, nodes, &arguments.tables).await;
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    ensure!(stopping.is_cancelled(), "the messages have ended");
    Ok(())
}

/// One call for each group that the messages name; then each message is told what has become of it.
async fn handle(messages: Vec<Message>, nodes: &Nodes, tables: &[Table]) {
    let mut all = Vec::new();
    let mut readable = Vec::with_capacity(messages.len());
    let mut answers = Vec::with_capacity(messages.len());
    for message in messages {
        match read(&message.payload, tables) {
            Ok(changes) => {
                readable
                    .push((message, changes.iter().map(|change| change.group.clone()).collect::<Vec<_>>()));
                all.extend(changes);
            }
            Err(poison) => {
                let error = &poison as &dyn std::error::Error;
                tracing::error!(sequence = sequence(&message), error, "a message is given up");
                answers.push((message, AckKind::Term));
            }
        }
    }
    let outcomes = nodes.drop_all(all).await;
    for (message, groups) in readable {
        let answer = verdict(&message, &groups, &outcomes);
        answers.push((message, answer));
    }
    let sent = join_all(answers.iter().map(|(message, answer)| message.ack_with(*answer))).await;
    for error in sent.into_iter().filter_map(Result::err) {
        tracing::warn!(
            error = &*error as &dyn std::error::Error,
            "NATS was not told; the message comes again"
        );
    }
}

/// A message is done when all of its groups are.
fn verdict(message: &Message, groups: &[String], outcomes: &BTreeMap<String, Outcome>) -> AckKind {
    let is = |outcome| groups.iter().find(|group| outcomes.get(*group) == Some(&outcome));
    if is(Outcome::Later).is_some() {
        let delivered = message.info().map_or(1, |info| info.delivered);
        let doublings = u32::try_from(delivered.clamp(1, 16) - 1).unwrap_or(0);
        return AckKind::Nak(Some(RETRY.0.saturating_mul(1 << doublings).min(RETRY.1)));
    }
    if let Some(group) = is(Outcome::NoSuchGroup) {
        tracing::error!(
            sequence = sequence(message),
            group,
            "a message is given up: no node has its group, or the token is for others"
        );
        return AckKind::Term;
    }
    AckKind::Ack
}

/// Where in the stream a message is, for who wants to read it.
fn sequence(message: &Message) -> u64 {
    message.info().map_or(0, |info| info.stream_sequence)
}
