//! Connecting to the one port, with errors that say who refused whom.

mod connector;

use std::{error::Error, sync::Arc, time::Duration};

use rustls::ClientConfig;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use self::connector::Target;
use crate::{exit::chain, tls::NotPinned};

/// Why there is no connection. Every variant is final for this attempt; only
/// [`DialError::Unreachable`] may pass by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The text is not an address.
    #[error("address '{address}' is not HOST:PORT ({why})")]
    Address {
        /// The text.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Our own certificate, key and authority do not make a TLS configuration.
    #[error("our own credentials cannot be used: {0}")]
    Credentials(String),
    /// Nothing answers there, or it does not speak TLS.
    #[error("cannot reach {address}: {cause}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why, in words.
        cause: String,
    },
    /// The server is not the one that we trust.
    #[error("{address} is not the server that we trust: {cause}")]
    Untrusted {
        /// Where.
        address: String,
        /// Why, in words.
        cause: String,
    },
    /// The server presents another authority than the pinned one.
    #[error("{address} has another certificate authority than the one that was pinned")]
    NotPinned {
        /// Where.
        address: String,
    },
    /// The server does not accept our certificate.
    #[error("{address} does not accept our certificate: {cause}")]
    Refused {
        /// Where.
        address: String,
        /// Why, in words.
        cause: String,
    },
}

/// Bounds of a connection that we open.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the look-up of the name to the first bytes of the server, together.
    pub connect: Duration,
    /// Ping the server this often, also when idle, and give up when no answer comes within the same time.
    pub keepalive: Duration,
    /// Bytes in flight per request.
    pub stream_window: u32,
    /// Bytes in flight per connection.
    pub connection_window: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            keepalive: Duration::from_secs(10),
            stream_window: 2 << 20,
            connection_window: 4 << 20,
        }
    }
}

/// Connects now, so that every error comes out here. The channel connects again by itself when the
/// connection is lost; what goes wrong then is in the status of a call, see [`classify`].
///
/// # Errors
/// All of [`DialError`].
pub async fn channel(address: &str, config: Arc<ClientConfig>, limits: Limits) -> Result<Channel, DialError> {
    let target = Target::parse(address)?;
    let endpoint = endpoint(&target, limits)?;
    let connector = connector::service(target, config, limits.connect);
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        find(&error)
            .unwrap_or_else(|| DialError::Unreachable { address: address.to_owned(), cause: chain(&error) })
    })
}

/// Connects when the first call is made, and again after each loss.
///
/// # Errors
/// [`DialError::Address`].
pub fn channel_lazy(address: &str, config: Arc<ClientConfig>, limits: Limits) -> Result<Channel, DialError> {
    let target = Target::parse(address)?;
    let endpoint = endpoint(&target, limits)?;
    Ok(endpoint.connect_with_connector_lazy(connector::service(target, config, limits.connect)))
}

/// The connection error behind the status of a call, if that is what it was: so that a caller reports
/// "does not accept our certificate" instead of "transport error".
pub fn classify(status: &Status) -> Option<DialError> {
    let source = status.source()?;
    find(source).or_else(|| {
        let alert = connector::alert(source)?;
        Some(DialError::Refused { address: "the server".to_owned(), cause: connector::words(alert) })
    })
}

fn endpoint(target: &Target, limits: Limits) -> Result<Endpoint, DialError> {
    // TLS is ours, so the scheme that tonic sees is http; the authority is what servers see as host.
    let endpoint = Endpoint::from_shared(format!("http://{}", target.address))
        .map_err(|_| DialError::Address { address: target.address.clone(), why: "a host name is needed" })?;
    Ok(endpoint
        .http2_keep_alive_interval(limits.keepalive)
        .keep_alive_timeout(limits.keepalive)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_frame_size(crate::server::FRAME_MAX))
}

/// Our own error somewhere in a chain of causes.
fn find(error: &(dyn Error + 'static)) -> Option<DialError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<DialError>() {
            return Some(found.clone());
        }
        cause = error.source();
    }
    None
}

impl DialError {
    fn untrusted(address: &str, why: &rustls::Error) -> Self {
        let address = address.to_owned();
        if let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = why {
            if other.0.downcast_ref::<NotPinned>().is_some() {
                return Self::NotPinned { address };
            }
            return Self::Untrusted { address, cause: other.0.to_string() };
        }
        Self::Untrusted { address, cause: connector::server_words(why) }
    }
}
