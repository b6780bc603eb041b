//! Connecting to the coordinator as a member.

use std::sync::Arc;

use rustls::ClientConfig;
use service::{
    dial::{self, DialError, Limits},
    tls,
};
use tonic::transport::Channel;

use crate::{ClientHome, Principal};

/// Connects now, to `address` or where the home says. The channel connects again by itself.
///
/// # Errors
/// [`DialError`], with who refused whom.
pub async fn connect(home: &ClientHome, address: Option<&str>) -> Result<Channel, DialError> {
    dial::channel(address.unwrap_or(home.coordinator()), config(home)?, Limits::default()).await
}

/// Connects with the first call, to `address` or where the home says, and again after each loss.
///
/// # Errors
/// [`DialError::Address`] and [`DialError::Credentials`]; the rest is in the status of calls, see
/// [`dial::classify`].
pub fn connect_lazy(home: &ClientHome, address: Option<&str>) -> Result<Channel, DialError> {
    dial::channel_lazy(address.unwrap_or(home.coordinator()), config(home)?, Limits::default())
}

fn config(home: &ClientHome) -> Result<Arc<ClientConfig>, DialError> {
    let server = Principal::coordinator().uri(home.trust_domain());
    tls::client(home.identity(), home.authority(), &server, proto::ALPN)
        .map_err(|e| DialError::Credentials(e.to_string()))
}
