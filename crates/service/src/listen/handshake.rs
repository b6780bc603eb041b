//! From an accepted socket to a connection with a known protocol and peer.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{CertificateError, ServerConfig, server::Acceptor};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{Limits, connection::Connection, slots::Slot};

/// Where a connection may lead.
pub(super) struct Doors {
    pub(super) mutual: Arc<ServerConfig>,
    pub(super) to_mutual: mpsc::Sender<Connection>,
    pub(super) enrol: Arc<ServerConfig>,
    pub(super) to_enrol: mpsc::Sender<Connection>,
    pub(super) alpn_enrol: &'static [u8],
    pub(super) limits: Limits,
}

impl Doors {
    /// Shakes hands within the limit and passes the connection on. `permit` counts handshakes, so it
    /// ends with the handshake; `slot` counts connections and goes with the connection.
    pub(super) async fn admit<P>(&self, socket: TcpStream, address: SocketAddr, slot: Slot, permit: P) {
        let shaken = tokio::time::timeout(self.limits.handshake, self.shake(socket)).await;
        drop(permit);
        let (stream, door) = match shaken {
            Ok(Ok(shaken)) => shaken,
            Ok(Err(error)) => {
                tracing::info!(peer = %address, "connection refused: {}", reason(&error));
                return;
            }
            Err(_) => {
                let limit = self.limits.handshake;
                tracing::info!(peer = %address, "connection closed: no handshake within {limit:?}");
                return;
            }
        };
        let connection = Connection::new(stream, address, self.limits.first_request, slot);
        // A closed channel means that the server stops: the connection is dropped with it.
        let _ = door.send(connection).await;
    }

    async fn shake(
        &self,
        socket: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, &mpsc::Sender<Connection>)> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        let (config, door) =
            if hello.client_hello().alpn().is_some_and(|mut all| all.any(|p| p == self.alpn_enrol)) {
                (&self.enrol, &self.to_enrol)
            } else {
                (&self.mutual, &self.to_mutual)
            };
        let stream = hello.into_stream(config.clone()).await?;
        // rustls refuses protocols that do not overlap, but accepts a client that offers none.
        if stream.get_ref().1.alpn_protocol().is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client offers no ALPN protocol"));
        }
        Ok((stream, door))
    }
}

/// Why a handshake failed, in words for the operator.
fn reason(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "the peer closed it during the handshake".to_owned()
            }
            _ => error.to_string(),
        };
    };
    match tls {
        rustls::Error::NoCertificatesPresented => "the peer has no certificate".to_owned(),
        rustls::Error::NoApplicationProtocol => "the peer speaks another protocol (ALPN)".to_owned(),
        rustls::Error::InvalidMessage(_) => "the peer does not speak TLS".to_owned(),
        rustls::Error::AlertReceived(alert) => {
            format!("the peer does not accept our certificate ({alert:?})")
        }
        rustls::Error::InvalidCertificate(why) => certificate_reason(why),
        other => other.to_string(),
    }
}

fn certificate_reason(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the peer's certificate is of another authority".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the peer's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the peer's certificate is not valid yet: compare the clocks".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the peer's certificate is not for clients".to_owned()
        }
        other => format!("the peer's certificate is not valid: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words() {
        let of = |e: rustls::Error| reason(&io::Error::new(io::ErrorKind::InvalidData, e));
        assert_eq!(of(rustls::Error::NoCertificatesPresented), "the peer has no certificate");
        assert_eq!(
            of(CertificateError::UnknownIssuer.into()),
            "the peer's certificate is of another authority"
        );
        assert_eq!(of(CertificateError::Expired.into()), "the peer's certificate has expired");
        assert_eq!(of(CertificateError::InvalidPurpose.into()), "the peer's certificate is not for clients");
        assert_eq!(reason(&io::ErrorKind::UnexpectedEof.into()), "the peer closed it during the handshake");
    }
}
