//! `conclave.v1.Enrolment`: the one service for hosts without a certificate, on its own listener.

use std::sync::Arc;

use proto::v1::{self, enrolment_server::Enrolment as Service};
use service::task::Tasks;
use tonic::{Request, Response, Status};

use super::errors;
use crate::invitations::Invitations;

/// See the module.
#[derive(Debug)]
pub(crate) struct Enrolment {
    pub(crate) tasks: Tasks,
    pub(crate) invitations: Arc<Invitations>,
}

#[tonic::async_trait]
impl Service for Enrolment {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let message = request.into_inner();
        let invitations = self.invitations.clone();
        let redeem = async move { invitations.redeem(message).await };
        let (principal, leaf, ca_pem) =
            self.tasks.finish("join", redeem).await.map_err(|e| errors::internal(&e))??;
        Ok(Response::new(v1::JoinResponse {
            certificate_pem: leaf.pem,
            ca_pem,
            role: principal.role.to_string(),
            name: principal.name.to_string(),
        }))
    }
}
