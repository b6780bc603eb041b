//! `conclave.v1.Registry`: what readers call to find and fetch models.

use std::sync::Arc;

use proto::{
    convert,
    error::WireError,
    v1::{self, registry_server::Registry as Service},
};
use tonic::{Request, Response, Status};

use super::{Reply, chunks, errors};
use crate::{
    registry::{Registry as Versions, RegistryError},
    runs::Shared,
    store::VersionRecord,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) shared: Arc<Shared>,
}

impl Registry {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Versions) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, WireError> {
        let registry = self.shared.registry.clone();
        let done = self.shared.tasks.blocking("read registry", move || work(&registry)).await;
        done.map_err(|e| errors::internal(&e))?.map_err(errors::from_registry)
    }
}

#[tonic::async_trait]
impl Service for Registry {
    async fn list_versions(
        &self,
        request: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        let model = request.into_inner().model;
        let versions = self.blocking(move |registry| {
            let records = if model.is_empty() { registry.models() } else { registry.versions(&model)? };
            Ok(records.iter().map(|r| summary(registry, r)).collect())
        });
        Ok(Response::new(v1::ListVersionsResponse { versions: versions.await? }))
    }

    async fn show_version(
        &self,
        request: Request<v1::ShowVersionRequest>,
    ) -> Result<Response<v1::ShowVersionResponse>, Status> {
        let message = request.into_inner();
        let shown = self.blocking(move |registry| {
            let record = registry.resolve(&message.model, &message.reference)?;
            let digest = crate::registry::digest(&record.weights)?;
            Ok(v1::ShowVersionResponse {
                summary: Some(summary(registry, &record)),
                manifest_json: registry.manifest_json(&record)?,
                weights: Some(convert::blob_ref(digest, record.weights.bytes)),
            })
        });
        Ok(Response::new(shown.await?))
    }

    type FetchModelStream = Reply<v1::Chunk>;

    async fn fetch_model(
        &self,
        request: Request<v1::FetchModelRequest>,
    ) -> Result<Response<Self::FetchModelStream>, Status> {
        let message = request.into_inner();
        let offset = message.offset;
        let weights = self.blocking(move |registry| {
            let record = registry.resolve(&message.model, &message.version.to_string())?;
            registry.weights(&record)
        });
        Ok(Response::new(chunks(weights.await?.into(), offset)))
    }
}

fn summary(registry: &Versions, record: &VersionRecord) -> v1::VersionSummary {
    v1::VersionSummary {
        model: record.model.clone(),
        version: record.version,
        digest: crate::registry::digest(&record.weights).map(|d| d.as_bytes().to_vec()).unwrap_or_default(),
        aliases: registry.aliases(record),
        run: record.run.clone(),
        round: record.round,
        metrics: record.metrics.clone().into_iter().collect(),
        created_unix_ms: record.created_unix_ms,
    }
}
