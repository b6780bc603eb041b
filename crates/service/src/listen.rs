//! The one port: our own accept loop, because the server of `tonic` has no deadline for handshakes,
//! spins when the process is out of file descriptors, and cannot choose a configuration by ALPN.

mod connection;
mod handshake;
mod slots;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_stream::Stream;

pub use self::connection::{Connection, Peer};
use self::{handshake::Doors, slots::Slots};
use crate::task::{OnFailure, Tasks};

/// Connections that are ready and not yet taken by the server.
const QUEUE: usize = 64;

/// How long to wait before accepting again when the process is out of file descriptors.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Bounds on what peers without a name may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; more are closed at once.
    pub connections: usize,
    /// Open connections of one address.
    pub connections_per_address: usize,
    /// Handshakes at the same time; more wait in the kernel's queue.
    pub handshakes: usize,
    /// From accepting a connection to the end of its handshake.
    pub handshake: Duration,
    /// From the handshake to the first byte of a request.
    pub first_request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 1024,
            handshakes: 64,
            handshake: Duration::from_secs(5),
            first_request: Duration::from_secs(10),
        }
    }
}

/// A bound port that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// The connections that negotiated one ALPN protocol, for `serve_with_incoming_shutdown` of `tonic`.
/// Ends when the listener stops.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<Connection>);

impl Listener {
    /// Binds; port 0 takes a free one, see [`Listener::address`].
    ///
    /// # Errors
    /// The address is not ours or not free.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until shutdown. The ALPN protocol that a client offers decides: those of `mutual` go to
    /// the first stream, `alpn_enrol` goes to the second, others are refused.
    ///
    /// Refused handshakes are logged at info with the peer's address and the reason.
    pub fn serve(
        self,
        mutual: Arc<ServerConfig>,
        enrol: Arc<ServerConfig>,
        alpn_enrol: &'static [u8],
        limits: Limits,
        tasks: &Tasks,
    ) -> (Incoming, Incoming, SocketAddr) {
        let (to_mutual, from_mutual) = mpsc::channel(QUEUE);
        let (to_enrol, from_enrol) = mpsc::channel(QUEUE);
        let doors = Doors { mutual, to_mutual, enrol, to_enrol, alpn_enrol, limits };
        let accepting = accept(self.socket, Arc::new(doors), tasks.clone());
        tasks.spawn("accept", OnFailure::StopProcess, accepting);
        (Incoming(from_mutual), Incoming(from_enrol), self.address)
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|connection| connection.map(Ok))
    }
}

async fn accept(socket: TcpListener, doors: Arc<Doors>, tasks: Tasks) {
    let handshakes = Arc::new(Semaphore::new(doors.limits.handshakes));
    let slots = Slots::new(doors.limits.connections, doors.limits.connections_per_address);
    let shutdown = tasks.shutdown().clone();
    loop {
        // A permit before accepting: what waits longer waits in the kernel and costs us nothing.
        let next = async {
            let permit = handshakes.clone().acquire_owned().await;
            (permit, socket.accept().await)
        };
        let Some((permit, accepted)) = shutdown.run_until_cancelled(next).await else { return };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                refused_by_system(&error).await;
                continue;
            }
        };
        let slot = match slots.take(address.ip()) {
            Ok(slot) => slot,
            Err(why) => {
                tracing::info!(peer = %address, "connection refused: {why}");
                continue;
            }
        };
        let (doors, shutdown) = (doors.clone(), shutdown.clone());
        tasks.spawn("handshake", OnFailure::Log, async move {
            // Dropped with the connection; a connection that is waiting for a busy server ends with us.
            shutdown.run_until_cancelled(doors.admit(prepare(stream), address, slot, permit)).await;
        });
    }
}

/// `serve_with_incoming` does not do this for streams that it did not accept itself.
fn prepare(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("cannot set TCP_NODELAY: {error}");
    }
    stream
}

/// A connection that ended while it waited is the peer's affair. Everything else (no file descriptors,
/// no memory) lasts a while: trying again at once would use a whole core.
async fn refused_by_system(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::warn!("cannot accept connections for the moment: {error}");
        tokio::time::sleep(BACK_OFF).await;
    }
}
