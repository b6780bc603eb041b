use std::sync::Arc;

use params::{Digest, Params};
use proto::{
    convert,
    v1::{BlobRef, WorkKind},
};
use service::task::Tasks;
use update::difference;

use super::{Assignment, Impossible, WorkError, prepared::Prepared};
use crate::{
    client::{CallError, Client},
    compute::ComputeError,
    disk::{
        cache::Cache,
        carry::{Carried, Carry, Shape},
    },
    error::chain,
    fetch::Fetcher,
    tables::Tables,
};

/// Where the weights and the examples of work come from, and the last of each: the next work often needs
/// the same.
pub(crate) struct Inputs {
    tables: Tables,
    cache: Cache,
    carry: Carry,
    tasks: Tasks,
    fetcher: Fetcher,
    weights: Option<(BlobRef, Arc<Params>)>,
    prepared: Option<Arc<Prepared>>,
}

impl Inputs {
    pub(crate) fn new(tables: Tables, cache: Cache, carry: Carry, tasks: Tasks) -> Self {
        Self { tables, cache, carry, tasks, fetcher: Fetcher::default(), weights: None, prepared: None }
    }

    /// The weights that the work names: at hand, from the cache, or from the coordinator.
    pub(super) async fn weights(
        &mut self,
        client: &Client,
        work: &Assignment,
    ) -> Result<Arc<Params>, WorkError> {
        let blob = &work.model;
        if let Some((_, weights)) = self.weights.as_ref().filter(|(known, _)| known == blob) {
            return Ok(Arc::clone(weights));
        }
        // Before the new ones are there: a host holds one model, not two.
        self.weights = None;
        let digest = convert::digest("model", &blob.digest).map_err(CallError::Refused)?;
        let bytes = match self.cached(digest).await? {
            Some(bytes) => {
                tracing::info!(run = %work.run, round = work.round, "base version from the cache");
                bytes
            }
            None => {
                let bytes = match self.differing(client, work, digest).await? {
                    Some(bytes) => bytes,
                    None => self.fetcher.fetch(client, blob).await?,
                };
                let bytes = Arc::new(bytes);
                self.cache(digest, &bytes).await?;
                bytes
            }
        };
        let weights = Params::from_safetensors(&bytes)
            .map_err(|e| Impossible::open(format!("the weights cannot be used: {e}")))?;
        let weights = Arc::new(weights);
        self.weights = Some((blob.clone(), Arc::clone(&weights)));
        Ok(weights)
    }

    /// The weights from a version that is in the cache, and the difference to it; `None`: the whole file is to be
    /// fetched.
    async fn differing(
        &mut self,
        client: &Client,
        work: &Assignment,
        digest: Digest,
    ) -> Result<Option<Vec<u8>>, WorkError> {
        let Some((before, blob)) = &work.difference else { return Ok(None) };
        let Some(old) = self.cached(*before).await? else { return Ok(None) };
        let difference = match self.fetcher.fetch(client, blob).await {
            Ok(difference) => difference,
            // The whole file would not come over this connection either.
            Err(error @ (CallError::Broken(_) | CallError::Dial(_))) => return Err(error.into()),
            Err(error) => {
                tracing::warn!("the whole version is fetched, not the difference: {}", chain(&error));
                return Ok(None);
            }
        };
        let length_max = usize::try_from(work.model.bytes).unwrap_or(usize::MAX);
        let apply = move || {
            let new = difference::apply(&old, &difference, length_max).map_err(|fault| fault.to_string())?;
            let found = Digest::of(&new);
            if found == digest { Ok(new) } else { Err(format!("it makes {found}, not {digest}")) }
        };
        let bytes = blob.bytes;
        match self.tasks.blocking("apply difference", apply).await.map_err(|_| lost())? {
            Ok(new) => {
                tracing::info!(run = %work.run, round = work.round, bytes, of = new.len(), "version by its difference");
                Ok(Some(new))
            }
            Err(fault) => {
                tracing::warn!("the whole version is fetched, the difference is of no use: {fault}");
                Ok(None)
            }
        }
    }

    /// The examples of this work.
    pub(super) async fn examples(
        &mut self,
        client: &Client,
        work: &Assignment,
    ) -> Result<Arc<Prepared>, WorkError> {
        if let Some(known) = self.prepared.as_ref().filter(|known| known.key() == work.data_key) {
            return Ok(Arc::clone(known));
        }
        self.prepared = None;
        let prepared = match &work.shard {
            Some(shard) => {
                let csv = self.fetcher.fetch(client, shard).await?;
                Prepared::hosted(work, &csv).map_err(|e| Impossible::hosted(&e))?
            }
            None => {
                let name = &work.job.data.name;
                let table = self.tables.get(name).ok_or_else(|| {
                    let names = self.tables.names();
                    Impossible::open(format!(
                        "this worker offers no dataset '{name}' (it offers: {names}): start it with --data {name}=PATH"
                    ))
                })?;
                Prepared::private(work, table)?
            }
        };
        let prepared = Arc::new(prepared);
        self.prepared = Some(Arc::clone(&prepared));
        Ok(prepared)
    }

    /// What an earlier training of the run left on this host, and its round: before that of a training, up to that of
    /// a candidate, which is measured with the own values that its round learnt.
    pub(super) async fn carried(
        &self,
        work: &Assignment,
        shape: Shape,
    ) -> Result<(Carried, Option<u32>), Impossible> {
        if shape.is_empty() {
            return Ok((Carried::default(), None));
        }
        let before = match work.kind {
            WorkKind::Evaluate => work.round.saturating_add(1),
            WorkKind::Train | WorkKind::Unspecified => work.round,
        };
        let (carry, run) = (self.carry.clone(), work.run.clone());
        let found = self.tasks.blocking("read carry", move || carry.latest(&run, before, shape)).await;
        found.map_err(|_| lost())
    }

    async fn cached(&self, digest: Digest) -> Result<Option<Arc<Vec<u8>>>, Impossible> {
        let cache = self.cache.clone();
        let found = self.tasks.blocking("read cache", move || cache.get(digest)).await;
        Ok(found.map_err(|_| lost())?.map(Arc::new))
    }

    /// A cache that takes nothing costs a download after the next start, and no work now.
    async fn cache(&self, digest: Digest, bytes: &Arc<Vec<u8>>) -> Result<(), Impossible> {
        let (cache, bytes) = (self.cache.clone(), Arc::clone(bytes));
        let put = self.tasks.blocking("write cache", move || cache.put(digest, &bytes)).await;
        if let Err(error) = put.map_err(|_| lost())? {
            tracing::warn!("the base version is not cached: {}", chain(&error));
        }
        Ok(())
    }
}

fn lost() -> Impossible {
    Impossible::open(ComputeError::Lost.to_string())
}
