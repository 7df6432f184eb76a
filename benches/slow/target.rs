//! Where a node is asked, by TLS or without; and what its process takes meanwhile.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::Instant,
};
use tokio_rustls::TlsConnector;

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A plane of a node.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// A connection whose other end may send little before it is read.
    pub async fn open_narrow(&self) -> io::Result<Box<dyn Stream>> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        self.secure(socket.connect(self.address).await?).await
    }

    /// A connection.
    pub async fn open(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        self.secure(stream).await
    }

    async fn secure(&self, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from("localhost").expect("a name");
        Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?))
    }
}

/// Sends a GET and reads the answer; the number of bytes of its body.
///
/// # Errors
/// If the answer is another than 200, or none.
pub async fn get(stream: &mut dyn Stream, path: &str) -> io::Result<usize> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1024);
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    loop {
        if let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer[..end]).into_owned();
            if !head.starts_with("HTTP/1.1 200") {
                return Err(wrong(head.lines().next().unwrap_or_default()));
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.ok_or_else(|| wrong("the answer has no length"))?;
            let mut missing = (end + 4 + length).saturating_sub(answer.len());
            let mut rest = vec![0; missing.min(64 << 10)];
            while missing > 0 {
                let room = missing.min(rest.len());
                stream.read_exact(&mut rest[..room]).await?;
                missing -= room;
            }
            return Ok(length);
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What a process takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub resident_kib: u64,
    pub descriptors: usize,
}

impl Process {
    pub fn of(id: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the node runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident memory");
        let resident_kib = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
        let descriptors = std::fs::read_dir(format!("/proc/{id}/fd")).expect("the node runs").count();
        Self { resident_kib, descriptors }
    }

    fn max(self, other: Self) -> Self {
        Self {
            resident_kib: self.resident_kib.max(other.resident_kib),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}

/// Looks at a process until `enough` says so of what it takes and of the time that has passed, or `patience` is over; the
/// most that it took, and when it was enough.
pub async fn watch(
    id: u32,
    patience: Duration,
    mut enough: impl FnMut(Process, Duration) -> bool,
) -> (Process, Option<Duration>) {
    let (begun, mut peak) = (Instant::now(), Process::default());
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = Process::of(id);
        peak = peak.max(now);
        if enough(now, begun.elapsed()) {
            return (peak, Some(begun.elapsed()));
        }
        if begun.elapsed() >= patience {
            return (peak, None);
        }
    }
}
