//! W3C Trace Context (`traceparent`, level 1): which request of whom a span belongs to, across nodes.
//!
//! A sampled request carries its context through the tasks that work for it ([`within`], [`current`]); each step of it
//! is a span ([`spanned`]) that is logged when it ends, with the ids by which a collector of logs joins them. A request
//! without a context costs one look at a task's local.

use std::{fmt, time::Duration};

use futures_util::future::Either;
use tokio::time::Instant;
use tracing::Instrument as _;

/// The header's name.
pub const TRACEPARENT: &str = "traceparent";
/// The length of a header of version 00, in bytes.
const LENGTH: usize = 55;

/// One span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    is_sampled: bool,
}

impl TraceContext {
    /// The first span of a new trace, sampled.
    pub fn new() -> Self {
        Self { trace_id: fastrand::u128(1..), span_id: fastrand::u64(1..), is_sampled: true }
    }

    /// Reads a `traceparent`. `None` if it is malformed: whoever gets such a one begins anew (section 3.2.2).
    pub fn parse(text: &[u8]) -> Option<Self> {
        let is_versioned = match text.get(..2)? {
            b"00" => text.len() == LENGTH,
            // A later version may go on after a dash; `ff` is none.
            b"ff" => false,
            version => hex(version).is_some() && (text.len() == LENGTH || text.get(LENGTH) == Some(&b'-')),
        };
        let dashes = text.len() >= LENGTH && [2, 35, 52].iter().all(|at| text[*at] == b'-');
        if !is_versioned || !dashes {
            return None;
        }
        let trace_id = hex(&text[3..35])?;
        let span_id = hex(&text[36..52])? as u64;
        let flags = hex(&text[53..55])?;
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }

    /// A span within this one.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: fastrand::u64(1..), ..self }
    }

    /// The same trace, whose spans at this node are not logged.
    #[must_use]
    pub const fn unsampled(self) -> Self {
        Self { is_sampled: false, ..self }
    }

    /// Whether its spans are logged.
    pub const fn is_sampled(self) -> bool {
        self.is_sampled
    }
}

impl Default for TraceContext {
    fn default() -> Self {
        Self::new()
    }
}

/// As a `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }
}

/// Lower-case digits only, as the header has them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// The span that the task works in, if there is one.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// Runs `work` in `context`, if there is one. For a task that works for another.
// Not an `async fn`, which would have room for `work` twice.
pub fn within<F: Future>(context: Option<TraceContext>, work: F) -> impl Future<Output = F::Output> {
    match context {
        Some(context) => Either::Left(CURRENT.scope(context, work)),
        None => Either::Right(work),
    }
}

/// Runs `work` in a span of its own within the present one, which is logged when it ends; without a sampled one, just
/// runs it.
pub async fn spanned<F: Future>(name: &'static str, work: F) -> F::Output {
    let Some(parent) = current().filter(|context| context.is_sampled()) else { return work.await };
    run(name, parent.child(), Some(parent), work).await
}

/// Runs `work` in the span `context`, the first one of this node, which is logged when it ends.
pub async fn rooted<F: Future>(name: &'static str, context: TraceContext, work: F) -> F::Output {
    if context.is_sampled() {
        run(name, context, None, work).await
    } else {
        within(Some(context), work).await
    }
}

/// Notes the span `context`, the first one of this node, which took `duration` and waited for nothing.
pub fn mark(name: &'static str, context: TraceContext, duration: Duration) {
    if context.is_sampled() {
        tracing::info!(
            span.name = name,
            trace.id = format_args!("{:032x}", context.trace_id),
            span.id = format_args!("{:016x}", context.span_id),
            duration_ms = duration.as_secs_f64() * 1000.0,
            "span ended"
        );
    }
}

async fn run<F: Future>(
    name: &'static str,
    context: TraceContext,
    parent: Option<TraceContext>,
    work: F,
) -> F::Output {
    let begun = Instant::now();
    let span = tracing::info_span!(
        "span",
        span.name = name,
        trace.id = format_args!("{:032x}", context.trace_id),
        span.id = format_args!("{:016x}", context.span_id),
        parent.id = parent.map(|parent| format!("{:016x}", parent.span_id)),
    );
    async {
        let output = CURRENT.scope(context, work).await;
        tracing::info!(duration_ms = begun.elapsed().as_secs_f64() * 1000.0, "span ended");
        output
    }
    .instrument(span)
    .await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_header_is_read_and_written() {
        let context = TraceContext::parse(EXAMPLE.as_bytes()).expect("the standard's example");
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), EXAMPLE);
        let child = context.child();
        assert_eq!(child.trace_id, context.trace_id);
        assert_ne!(child.span_id, context.span_id);
        let later = EXAMPLE.replacen("00", "cc", 1);
        assert!(TraceContext::parse(later.as_bytes()).is_some());
        assert!(TraceContext::parse(format!("{later}-what-ever").as_bytes()).is_some());
    }

    #[test]
    fn what_is_malformed_is_none() {
        for text in [
            String::new(),
            EXAMPLE.to_uppercase(),
            EXAMPLE.replacen("00", "ff", 1),
            format!("{EXAMPLE}-x"),
            EXAMPLE.replace('-', "_"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned(),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned(),
            EXAMPLE[..54].to_owned(),
        ] {
            assert_eq!(TraceContext::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_task_knows_its_span() {
        assert_eq!(current(), None);
        let context = TraceContext::new();
        within(Some(context), async {
            assert_eq!(current(), Some(context));
            let inner = spanned("step", async { current() }).await.expect("a span");
            assert_eq!(inner.trace_id, context.trace_id);
            assert_ne!(inner.span_id, context.span_id);
        })
        .await;
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = TraceContext::parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(trace_id in 1_u128.., span_id in 1_u64.., is_sampled: bool) {
            let context = TraceContext { trace_id, span_id, is_sampled };
            prop_assert_eq!(TraceContext::parse(context.to_string().as_bytes()), Some(context));
        }
    }
}
