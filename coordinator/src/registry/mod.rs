//! The registry: every committed round is an immutable, numbered version of a model.

mod manifest;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use params::{Digest, Name};

pub(crate) use manifest::{Architecture, File, Lineage, Manifest, Signature, TensorMeta, WEIGHTS};

use crate::store::{BlobRecord, Blobs, Changes, Index, RoundRecord, RunRecord, StoreError, VersionRecord};

/// Why a version cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// No version of such a model was published.
    #[error("no model '{model}' in the registry; known are: {known}")]
    NoModel { model: String, known: String },
    /// The model has no such version or alias.
    #[error(
        "model '{model}' has no version or alias '{reference}'; versions are 1 to {last}, aliases: latest"
    )]
    NoVersion { model: String, reference: String, last: u64 },
    /// The manifest on disk does not parse.
    #[error("manifest of {model}:{version} does not parse: {cause}")]
    Manifest { model: String, version: u64, cause: serde_json::Error },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds, reads and publishes versions. Look-ups are answered from memory.
#[derive(Debug)]
pub(crate) struct Registry {
    index: Arc<Index>,
    blobs: Arc<Blobs>,
    versions: RwLock<BTreeMap<String, Vec<Arc<VersionRecord>>>>,
    /// Held while a version gets its number and becomes durable.
    publishing: Mutex<()>,
}

impl Registry {
    /// Reads all version records.
    pub(crate) fn open(index: Arc<Index>, blobs: Arc<Blobs>) -> Result<Self, RegistryError> {
        let mut versions: BTreeMap<String, Vec<Arc<VersionRecord>>> = BTreeMap::new();
        for record in index.scan::<VersionRecord>("version/")? {
            versions.entry(record.model.clone()).or_default().push(Arc::new(record));
        }
        for list in versions.values_mut() {
            list.sort_by_key(|v| v.version);
        }
        Ok(Self { index, blobs, versions: RwLock::new(versions), publishing: Mutex::new(()) })
    }

    /// The latest version of each model, by name.
    pub(crate) fn models(&self) -> Vec<Arc<VersionRecord>> {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        versions.values().filter_map(|list| list.last().cloned()).collect()
    }

    /// All versions of one model, oldest first.
    pub(crate) fn versions(&self, model: &str) -> Result<Vec<Arc<VersionRecord>>, RegistryError> {
        self.with(model, <[_]>::to_vec)
    }

    /// A version by reference: empty or `latest`, or a number.
    pub(crate) fn resolve(&self, model: &str, reference: &str) -> Result<Arc<VersionRecord>, RegistryError> {
        self.with(model, |list| {
            let found = match reference {
                "" | "latest" => list.last(),
                _ => reference.parse().ok().and_then(|number: u64| {
                    let at = list.binary_search_by_key(&number, |v| v.version).ok()?;
                    list.get(at)
                }),
            };
            found.cloned().ok_or_else(|| RegistryError::NoVersion {
                model: model.to_owned(),
                reference: reference.chars().take(80).collect(),
                last: list.last().map_or(0, |v| v.version),
            })
        })?
    }

    fn with<T>(
        &self,
        model: &str,
        look: impl FnOnce(&[Arc<VersionRecord>]) -> T,
    ) -> Result<T, RegistryError> {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        versions.get(model).map(|list| look(list)).ok_or_else(|| RegistryError::NoModel {
            model: model.chars().take(80).collect(),
            known: match versions.is_empty() {
                true => "none yet, the first round of a run publishes one".to_owned(),
                false => versions.keys().cloned().collect::<Vec<_>>().join(", "),
            },
        })
    }

    /// The aliases that point at a version.
    pub(crate) fn aliases(&self, record: &VersionRecord) -> Vec<String> {
        let latest = self.resolve(&record.model, "latest").is_ok_and(|v| v.version == record.version);
        if latest { vec!["latest".to_owned()] } else { Vec::new() }
    }

    /// The manifest of a version.
    pub(crate) fn manifest(&self, record: &VersionRecord) -> Result<Manifest, RegistryError> {
        let bytes = self.blobs.get(&digest(&record.manifest)?)?;
        serde_json::from_slice(&bytes).map_err(|cause| RegistryError::Manifest {
            model: record.model.clone(),
            version: record.version,
            cause,
        })
    }

    /// The manifest of a version as it is stored.
    pub(crate) fn manifest_json(&self, record: &VersionRecord) -> Result<String, RegistryError> {
        let bytes = self.blobs.get(&digest(&record.manifest)?)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The weights of a version as a safetensors file.
    pub(crate) fn weights(&self, record: &VersionRecord) -> Result<Vec<u8>, RegistryError> {
        Ok(self.blobs.get(&digest(&record.weights)?)?)
    }

    /// The manifests of all committed rounds of a run, in order.
    pub(crate) fn rounds(&self, run: &Name) -> Result<Vec<Manifest>, RegistryError> {
        let records = self.index.scan::<RoundRecord>(&format!("round/{run}/"))?;
        records
            .iter()
            .map(|record| {
                let bytes = self.blobs.get(&digest(&record.manifest)?)?;
                serde_json::from_slice(&bytes).map_err(|cause| RegistryError::Manifest {
                    model: run.to_string(),
                    version: 0,
                    cause,
                })
            })
            .collect()
    }

    /// Commits a round: gives the version its number, stores the manifest, and makes version, round
    /// and run durable in one change. The weights must be durable before.
    pub(crate) fn publish(&self, mut manifest: Manifest, run: &RunRecord) -> Result<Manifest, RegistryError> {
        let _one_at_a_time = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let model = manifest.model.clone();
        manifest.version = self.resolve(&model, "latest").map_or(1, |last| last.version + 1);
        let json = serde_json::to_vec_pretty(&manifest).map_err(|cause| RegistryError::Manifest {
            model: model.clone(),
            version: manifest.version,
            cause,
        })?;
        let stored = BlobRecord { digest: self.blobs.put(&json)?.to_string(), bytes: json.len() as u64 };
        let weights = &manifest.files[WEIGHTS];
        let record = VersionRecord {
            model: model.clone(),
            version: manifest.version,
            weights: BlobRecord { digest: weights.digest.clone(), bytes: weights.bytes },
            manifest: stored.clone(),
            run: manifest.lineage.run.clone(),
            round: manifest.lineage.round,
            metrics: manifest.metrics.clone(),
            created_unix_ms: manifest.created_unix_ms,
        };
        let mut changes = Changes::default();
        // Zero-padded, so that the order of keys is the order of numbers.
        changes.put(&format!("version/{model}/{:012}", record.version), &record)?;
        changes.put(&format!("round/{}/{:010}", run.run, record.round), &RoundRecord { manifest: stored })?;
        changes.put(&format!("run/{}", run.run), run)?;
        self.index.commit(changes)?;
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        versions.entry(model).or_default().push(Arc::new(record));
        Ok(manifest)
    }
}

/// The digest that a record names.
pub(crate) fn digest(record: &BlobRecord) -> Result<Digest, StoreError> {
    record.digest.parse().map_err(|_| StoreError::Record {
        key: record.digest.clone(),
        cause: serde::de::Error::custom("not a digest"),
    })
}
