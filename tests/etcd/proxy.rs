//! A TCP proxy in front of etcd that can cut its connections, and hold back what etcd answers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Forwards to one port of this machine.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    /// Changes when all connections are to be cut.
    cut: watch::Sender<u64>,
    /// Whether answers are held back.
    hold: watch::Sender<bool>,
    /// How many bytes are held back.
    held: AtomicUsize,
}

impl Proxy {
    /// A proxy for `port`.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            cut: watch::Sender::new(0),
            hold: watch::Sender::new(false),
            held: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(forward(client, port, Arc::clone(&shared)));
            }
        });
        Self { address, state, _tasks: tasks }
    }

    /// Where to connect.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.state.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Holds back all answers from now on, or lets them go.
    pub fn hold(&self, hold: bool) {
        self.state.hold.send_replace(hold);
    }

    /// How many bytes have been held back.
    pub fn held(&self) -> usize {
        self.state.held.load(Ordering::SeqCst)
    }
}

async fn forward(mut client: TcpStream, port: u16, state: Arc<State>) {
    let mut cut = state.cut.subscribe();
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut hold = state.hold.subscribe();
        let (mut buffer, mut pending) = (vec![0; 16 << 10], Vec::new());
        loop {
            let is_held = *hold.borrow_and_update();
            if !is_held && !pending.is_empty() {
                to_client.write_all(&std::mem::take(&mut pending)).await?;
            }
            tokio::select! {
                read = from_server.read(&mut buffer) => match read? {
                    0 => return Ok::<_, std::io::Error>(()),
                    length => {
                        pending.extend_from_slice(&buffer[..length]);
                        if is_held {
                            state.held.fetch_add(length, Ordering::SeqCst);
                        }
                    }
                },
                _ = hold.changed() => {}
            }
        }
    };
    tokio::select! {
        _ = requests => {}
        _ = answers => {}
        _ = cut.changed() => {}
    }
}
