//! The connections to peers: a few to each, made when they are first needed, shared by all requests.
//!
//! One HTTP/2 connection is one task at each end and has a limited number of streams; a few of them carry thousands of
//! requests at once. A connection that broke is made anew by the next request on it.

use std::{
    collections::HashMap,
    error::Error,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::client::legacy::connect::HttpConnector;
use parking_lot::RwLock;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::super::resolve::{PeerResolver, check_host};
use crate::{
    cluster::Address,
    net::{Dialler, TlsConnect},
};

/// Connections to one peer. A lone request takes the first; the others are used as the requests under way grow.
const LANES: usize = 4;
/// Peers to which connections are kept. Beyond it the one that was not asked for longest is let go.
const LINKS_MAX: usize = 1_024;
/// A peer that was not asked for so long has left, or is down: it is let go when another comes.
const UNUSED_MAX: Duration = Duration::from_secs(300);
/// How often a connection is asked for a sign of life, and how long it is waited for: a connection that a partition
/// has cut is given up, and does not wait for TCP's growing retransmission times after it has healed.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// What a peer may send unasked on one stream, and on one connection, in bytes.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// The connections to all peers.
#[derive(Debug)]
pub(super) struct Links {
    connector: TlsConnect<HttpConnector<PeerResolver>>,
    /// The scheme that requests name; the connector does what it says.
    scheme: &'static str,
    begun: Instant,
    links: RwLock<HashMap<Address, Arc<Link>>>,
}

/// The connections to one peer.
#[derive(Debug)]
struct Link {
    endpoint: Endpoint,
    lanes: [Lane; LANES],
    /// When it was last asked for, in milliseconds after the begin.
    used: AtomicU64,
}

#[derive(Debug, Default)]
struct Lane {
    channel: OnceLock<Channel>,
    under_way: AtomicUsize,
}

/// A place on a connection, for one request. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) channel: Channel,
    link: Arc<Link>,
    lane: usize,
}

impl Links {
    /// No connections yet. An attempt at one is given up after `connect_timeout`. They are with TLS if it is said how.
    pub(super) fn new(connect_timeout: Duration, tls: Option<&Dialler>) -> Self {
        // As tonic makes its own, which would go wherever a name leads.
        let mut connector = HttpConnector::new_with_resolver(PeerResolver);
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connect_timeout));
        let connector = TlsConnect::new(connector, tls, connect_timeout);
        let scheme = if tls.is_some() { "https" } else { "http" };
        Self { connector, scheme, begun: Instant::now(), links: RwLock::default() }
    }

    /// A place on the connection to `address` that has the least to do.
    ///
    /// # Errors
    /// If the address can't be written as a URL, or is never a peer's.
    pub(super) fn seat(&self, address: &Address) -> Result<Seat, LinkError> {
        let link = self.link(address)?;
        let (at, lane) = link
            .lanes
            .iter()
            .enumerate()
            .min_by_key(|(_, lane)| lane.under_way.load(Ordering::Relaxed))
            .expect("there are lanes");
        lane.under_way.fetch_add(1, Ordering::Relaxed);
        let connect = || link.endpoint.connect_with_connector_lazy(self.connector.clone());
        let channel = lane.channel.get_or_init(connect).clone();
        Ok(Seat { channel, lane: at, link })
    }

    fn link(&self, address: &Address) -> Result<Arc<Link>, LinkError> {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(link) = self.links.read().get(address) {
            link.used.store(now, Ordering::Relaxed);
            return Ok(Arc::clone(link));
        }
        let link = Arc::new(Link {
            endpoint: endpoint(address, self.scheme)?,
            lanes: Default::default(),
            used: AtomicU64::new(now),
        });
        let mut links = self.links.write();
        make_room(&mut links, now);
        Ok(Arc::clone(links.entry(address.clone()).or_insert(link)))
    }
}

/// Why there is no link to an address.
type LinkError = Box<dyn Error + Send + Sync>;

/// How the peer is spoken to, once there is a connection.
fn endpoint(address: &Address, scheme: &str) -> Result<Endpoint, LinkError> {
    check_host(address.host())?;
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .origin(format!("{scheme}://{address}").parse()?)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW))
}

/// Lets those go that have not been asked for long, and one more if there are too many still. Requests under way keep
/// their connection.
fn make_room(links: &mut HashMap<Address, Arc<Link>>, now: u64) {
    let used = |link: &Link| link.used.load(Ordering::Relaxed);
    let unused_max = u64::try_from(UNUSED_MAX.as_millis()).unwrap_or(u64::MAX);
    links.retain(|_, link| now.saturating_sub(used(link)) <= unused_max);
    if links.len() >= LINKS_MAX
        && let Some(oldest) =
            links.iter().min_by_key(|(_, link)| used(link)).map(|(address, _)| address.clone())
    {
        links.remove(&oldest);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.link.lanes[self.lane].under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: usize) -> Address {
        Address::new(&format!("127.0.0.1:{port}")).expect("an address")
    }

    #[tokio::test]
    async fn requests_spread_over_the_connections() {
        let links = Links::new(Duration::from_secs(1), None);
        let seats: Vec<_> = (0..2 * LANES).map(|_| links.seat(&address(1)).expect("a seat")).collect();
        for lane in 0..LANES {
            assert_eq!(seats.iter().filter(|seat| seat.lane == lane).count(), 2);
        }
        drop(seats);
        for _ in 0..3 {
            assert_eq!(links.seat(&address(1)).expect("a seat").lane, 0, "a lone request takes the first");
        }
    }

    #[tokio::test]
    async fn peers_are_bounded_and_the_longest_unasked_goes_first() {
        let links = Links::new(Duration::from_secs(1), None);
        for port in 1..=LINKS_MAX {
            links.link(&address(port)).expect("a link").used.store(port as u64, Ordering::Relaxed);
        }
        links.link(&address(1)).expect("a link").used.store(u64::MAX, Ordering::Relaxed);
        links.link(&address(LINKS_MAX + 1)).expect("a link");
        let kept = links.links.read();
        assert_eq!(kept.len(), LINKS_MAX);
        assert!(kept.contains_key(&address(1)) && !kept.contains_key(&address(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_left_is_let_go() {
        let links = Links::new(Duration::from_secs(1), None);
        links.link(&address(1)).expect("a link");
        tokio::time::advance(UNUSED_MAX + Duration::from_secs(1)).await;
        links.link(&address(2)).expect("a link");
        assert_eq!(links.links.read().len(), 1);
    }
}
