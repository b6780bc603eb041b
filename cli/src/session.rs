use identity::ClientHome;
use proto::{
    inference::grpc_inference_service_client::GrpcInferenceServiceClient,
    v1::{control_client::ControlClient, registry_client::RegistryClient},
};
use tonic::transport::Channel;

use crate::{args::Globals, error::CliError};

/// The largest answer that is accepted, in bytes: a run with some hundred thousand rounds.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A connection to the coordinator with the identity of the home folder.
#[derive(Debug)]
pub(crate) struct Session {
    channel: Channel,
    address: String,
}

impl Session {
    /// Opens the home and connects.
    pub(crate) async fn open(globals: &Globals) -> Result<Self, CliError> {
        let dir = globals.home.as_deref().ok_or_else(no_home)?;
        let home = ClientHome::open(dir)?;
        let address = globals.coordinator.as_deref().unwrap_or(home.coordinator()).to_owned();
        let channel = identity::connect(&home, Some(&address)).await?;
        Ok(Self { channel, address })
    }

    /// Where the coordinator is: `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What operators call.
    pub(crate) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// What readers call.
    pub(crate) fn registry(&self) -> RegistryClient<Channel> {
        RegistryClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Predictions.
    pub(crate) fn inference(&self) -> GrpcInferenceServiceClient<Channel> {
        GrpcInferenceServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}

/// A command needs a home and none was named.
pub(crate) fn no_home() -> CliError {
    CliError::Usage("no home folder: give --home DIR or set CONCLAVE_HOME".to_owned())
}
