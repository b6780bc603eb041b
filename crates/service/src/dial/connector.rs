//! One attempt: look-up, TCP, TLS, and the first bytes of the server.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError, ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Uri;
use tower::service_fn;

use super::DialError;

/// The size of an HTTP/2 frame header: the first bytes of every server.
const FRAME_HEADER: usize = 9;

/// A checked address.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: String,
    name: ServerName<'static>,
}

impl Target {
    pub(super) fn parse(address: &str) -> Result<Self, DialError> {
        let bad = |why| DialError::Address { address: address.to_owned(), why };
        let (host, port) = address.rsplit_once(':').ok_or_else(|| bad("the port is missing"))?;
        if port.parse::<u16>().map_or(true, |port| port == 0) {
            return Err(bad("the port is not a number from 1 to 65535"));
        }
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.contains(':') && bare == host {
            return Err(bad("write an IPv6 address in brackets"));
        }
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| bad("the host is neither a name nor an IP address"))?;
        Ok(Self { address: address.to_owned(), name })
    }
}

pub(super) fn service(
    target: Target,
    config: Arc<ClientConfig>,
    limit: Duration,
) -> impl tower::Service<
    Uri,
    Response = TokioIo<Opened>,
    Error = DialError,
    Future = impl Future<Output = Result<TokioIo<Opened>, DialError>> + Send,
> + Send
+ 'static {
    service_fn(move |_: Uri| {
        let (target, config) = (target.clone(), config.clone());
        async move {
            match tokio::time::timeout(limit, open(&target, config)).await {
                Ok(opened) => opened.map(TokioIo::new),
                Err(_) => Err(unreachable(&target, format!("no answer within {limit:?}"))),
            }
        }
    })
}

/// In TLS 1.3 a client finishes its handshake before the server has looked at the client's certificate.
/// So we wait for the first bytes of the server, which it sends unasked (RFC 9113, section 3.4): a
/// refused certificate is then an error of connecting, not of the first call. It also keeps the
/// alert from being lost, which happens when the server closes with our bytes unread.
async fn open(target: &Target, config: Arc<ClientConfig>) -> Result<Opened, DialError> {
    let tcp =
        TcpStream::connect(&target.address).await.map_err(|e| unreachable(target, connect_words(&e)))?;
    tcp.set_nodelay(true).map_err(|e| unreachable(target, e.to_string()))?;
    let mut stream = TlsConnector::from(config)
        .connect(target.name.clone(), tcp)
        .await
        .map_err(|e| handshake_error(target, &e))?;
    let mut head = [0; FRAME_HEADER];
    stream.read_exact(&mut head).await.map_err(|e| first_bytes_error(target, &e))?;
    Ok(Opened { stream, head, given: 0 })
}

/// A stream whose first bytes were read already.
#[derive(Debug)]
pub(super) struct Opened {
    stream: TlsStream<TcpStream>,
    head: [u8; FRAME_HEADER],
    given: usize,
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.head[self.given..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let now = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..now]);
        self.given += now;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The alert that the other side sent, somewhere in a chain of causes.
pub(super) fn alert(error: &(dyn Error + 'static)) -> Option<AlertDescription> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::AlertReceived(alert)) = tls_error(error) {
            return Some(*alert);
        }
        cause = error.source();
    }
    None
}

/// What an alert about our certificate means.
pub(super) fn words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => "we have none".to_owned(),
        AlertDescription::CertificateExpired => "it has expired; join again".to_owned(),
        AlertDescription::UnsupportedCertificate => "it is not for clients".to_owned(),
        AlertDescription::CertificateRevoked => "it was revoked".to_owned(),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it is of another certificate authority; join this coordinator first".to_owned()
        }
        other => format!("TLS alert {other:?}"),
    }
}

/// Why we do not trust a server.
pub(super) fn server_words(why: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(why) = why else { return why.to_string() };
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is of another authority".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: compare the clocks".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{why}; the coordinator was set up with other names (`init --name`)")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for servers".to_owned()
        }
        other => other.to_string(),
    }
}

fn handshake_error(target: &Target, error: &io::Error) -> DialError {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            unreachable(target, "it speaks another protocol (ALPN)".to_owned())
        }
        Some(rustls::Error::AlertReceived(alert)) => refused(target, words(*alert)),
        Some(tls @ rustls::Error::InvalidCertificate(_)) => DialError::untrusted(&target.address, tls),
        Some(rustls::Error::InvalidMessage(_)) => unreachable(target, "it does not speak TLS".to_owned()),
        Some(other) => unreachable(target, other.to_string()),
        None => unreachable(target, "it closed the connection during the handshake".to_owned()),
    }
}

fn first_bytes_error(target: &Target, error: &io::Error) -> DialError {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(alert)) => refused(target, words(*alert)),
        Some(other) => unreachable(target, other.to_string()),
        None => unreachable(target, "it closed the connection after the handshake".to_owned()),
    }
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref().or_else(|| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
}

fn unreachable(target: &Target, cause: String) -> DialError {
    DialError::Unreachable { address: target.address.clone(), cause }
}

fn refused(target: &Target, cause: String) -> DialError {
    DialError::Refused { address: target.address.clone(), cause }
}

fn connect_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in ["localhost:7001", "10.0.0.1:1", "[::1]:65535", "fed.example.org:443"] {
            assert_eq!(Target::parse(good).unwrap().address, good);
        }
        let why = |address: &str| match Target::parse(address) {
            Err(DialError::Address { why, .. }) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why("localhost"), "the port is missing");
        assert_eq!(why("localhost:0"), "the port is not a number from 1 to 65535");
        assert_eq!(why("localhost:x"), "the port is not a number from 1 to 65535");
        assert_eq!(why("::1:80"), "write an IPv6 address in brackets");
        assert_eq!(why(":80"), "the host is neither a name nor an IP address");
        assert_eq!(why("a b:80"), "the host is neither a name nor an IP address");
    }

    #[test]
    fn alerts_are_found_below_other_errors() {
        let alert_below = io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::AlertReceived(AlertDescription::CertificateExpired),
        );
        let status = tonic::Status::from_error(Box::new(alert_below));
        let found = super::super::classify(&status).unwrap();
        assert_eq!(
            found.to_string(),
            "the server does not accept our certificate: it has expired; join again"
        );
        assert_eq!(super::super::classify(&tonic::Status::internal("x")), None);
    }
}
