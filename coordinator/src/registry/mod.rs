//! The registry: every committed round is an immutable, numbered version of a model.

mod manifest;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use journal::entry::What;
use params::{Digest, Name};

pub(crate) use manifest::{Architecture, File, Lineage, Manifest, Signature, TensorMeta, WEIGHTS};

use crate::store::{
    AliasRecord, BlobRecord, Changes, RoundRecord, RunRecord, Store, StoreError, VersionRecord,
};

/// The alias of the best version by the metric of its run.
pub(crate) const BEST: &str = "best";

/// Why a version cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// No version of such a model was published.
    #[error("no model '{model}' in the registry; known are: {known}")]
    NoModel { model: String, known: String },
    /// The model has no such version or alias.
    #[error(
        "model '{model}' has no version or alias '{reference}'; versions are 1 to {last}, aliases: latest{aliases}"
    )]
    NoVersion { model: String, reference: String, last: u64, aliases: String },
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
    store: Arc<Store>,
    models: RwLock<BTreeMap<String, Model>>,
    /// Held while a version gets its number. It knows versions that are not shown yet.
    publishing: Mutex<BTreeMap<String, Committed>>,
}

/// The versions of one model, oldest first, and its aliases but `latest`.
#[derive(Debug, Default)]
struct Model {
    versions: Vec<Arc<VersionRecord>>,
    aliases: BTreeMap<String, u64>,
}

/// What is in the journal of one model, shown or not.
#[derive(Clone, Debug, Default)]
struct Committed {
    /// The last number that was given.
    last: u64,
    /// The version that has the alias [`BEST`], and its metrics.
    best: Option<Arc<VersionRecord>>,
}

/// A round that is to be committed.
pub(crate) struct Publication {
    /// Of the version; it gets its number here.
    pub(crate) manifest: Manifest,
    /// The run with this round in it.
    pub(crate) run: RunRecord,
    /// The metric that [`BEST`] goes by.
    pub(crate) metric: job::Metric,
    /// What the journal's entry says beside the changes.
    pub(crate) what: What,
}

/// A version that is in the journal, and shown once the journal is on the disk.
#[derive(Debug)]
pub(crate) struct Published {
    /// The entry that commits it.
    pub(crate) seq: u64,
    manifest: Manifest,
    record: VersionRecord,
    best: bool,
}

impl Registry {
    /// Reads all version records.
    pub(crate) fn open(store: Arc<Store>) -> Result<Self, RegistryError> {
        let mut models: BTreeMap<String, Model> = BTreeMap::new();
        for record in store.scan::<VersionRecord>("version/")? {
            models.entry(record.model.clone()).or_default().versions.push(Arc::new(record));
        }
        for alias in store.scan::<AliasRecord>("alias/")? {
            models.entry(alias.model).or_default().aliases.insert(alias.alias, alias.version);
        }
        for model in models.values_mut() {
            model.versions.sort_by_key(|v| v.version);
        }
        Ok(Self { store, models: RwLock::new(models), publishing: Mutex::default() })
    }

    /// The latest version of each model, by name.
    pub(crate) fn models(&self) -> Vec<Arc<VersionRecord>> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.values().filter_map(|model| model.versions.last().cloned()).collect()
    }

    /// All versions of one model, oldest first.
    pub(crate) fn versions(&self, model: &str) -> Result<Vec<Arc<VersionRecord>>, RegistryError> {
        self.with(model, |model| model.versions.clone())
    }

    /// A version by reference: empty or `latest`, another alias, or a number.
    pub(crate) fn resolve(&self, model: &str, reference: &str) -> Result<Arc<VersionRecord>, RegistryError> {
        self.with(model, |found| {
            let list = &found.versions;
            let numbered = |number: u64| list.get(list.binary_search_by_key(&number, |v| v.version).ok()?);
            let version = match reference {
                "" | "latest" => list.last(),
                alias => match found.aliases.get(alias) {
                    Some(number) => numbered(*number),
                    None => alias.parse().ok().and_then(numbered),
                },
            };
            version.cloned().ok_or_else(|| RegistryError::NoVersion {
                model: model.to_owned(),
                reference: reference.chars().take(80).collect(),
                last: list.last().map_or(0, |v| v.version),
                aliases: found.aliases.keys().map(|alias| format!(", {alias}")).collect(),
            })
        })?
    }

    fn with<T>(&self, model: &str, look: impl FnOnce(&Model) -> T) -> Result<T, RegistryError> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.get(model).map(look).ok_or_else(|| RegistryError::NoModel {
            model: model.chars().take(80).collect(),
            known: match models.is_empty() {
                true => "none yet, the first round of a run publishes one".to_owned(),
                false => models.keys().cloned().collect::<Vec<_>>().join(", "),
            },
        })
    }

    /// The aliases that point at a version, sorted.
    pub(crate) fn aliases(&self, record: &VersionRecord) -> Vec<String> {
        let named = self.with(&record.model, |model| {
            let latest = model.versions.last().is_some_and(|v| v.version == record.version);
            let others = model.aliases.iter().filter(|(_, version)| **version == record.version);
            let mut names: Vec<String> = others.map(|(alias, _)| alias.clone()).collect();
            names.extend(latest.then(|| "latest".to_owned()));
            names
        });
        named.unwrap_or_default()
    }

    /// The manifest of a version.
    pub(crate) fn manifest(&self, record: &VersionRecord) -> Result<Manifest, RegistryError> {
        let bytes = self.store.blobs.get(&digest(&record.manifest)?)?;
        serde_json::from_slice(&bytes).map_err(|cause| RegistryError::Manifest {
            model: record.model.clone(),
            version: record.version,
            cause,
        })
    }

    /// The manifest of a version as it is stored.
    pub(crate) fn manifest_json(&self, record: &VersionRecord) -> Result<String, RegistryError> {
        let bytes = self.store.blobs.get(&digest(&record.manifest)?)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The weights of a version as a safetensors file.
    pub(crate) fn weights(&self, record: &VersionRecord) -> Result<Vec<u8>, RegistryError> {
        Ok(self.store.blobs.get(&digest(&record.weights)?)?)
    }

    /// The manifests of all committed rounds of a run, in order.
    pub(crate) fn rounds(&self, run: &Name) -> Result<Vec<Manifest>, RegistryError> {
        let records = self.store.scan::<RoundRecord>(&format!("round/{run}/"))?;
        records
            .iter()
            .map(|record| {
                let bytes = self.store.blobs.get(&digest(&record.manifest)?)?;
                serde_json::from_slice(&bytes).map_err(|cause| RegistryError::Manifest {
                    model: run.to_string(),
                    version: 0,
                    cause,
                })
            })
            .collect()
    }

    /// Commits a round: gives the version its number and adds version, round, run, aliases and the machine's event to
    /// the journal, as one entry. The weights must be durable before. Nobody sees the version until
    /// [`Registry::show`].
    pub(crate) fn publish(&self, publication: &Publication) -> Result<Published, RegistryError> {
        let mut publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut manifest = publication.manifest.clone();
        let model = manifest.model.clone();
        let committed = publishing.entry(model.clone()).or_insert_with(|| Committed {
            last: self.resolve(&model, "latest").map_or(0, |last| last.version),
            best: self.resolve(&model, BEST).ok(),
        });
        manifest.version = committed.last + 1;
        let json = serde_json::to_vec_pretty(&manifest).map_err(|cause| RegistryError::Manifest {
            model: model.clone(),
            version: manifest.version,
            cause,
        })?;
        let mut carried = Vec::new();
        let digest = self.store.blobs.put_for_entry(&json, &mut carried)?;
        let stored = BlobRecord { digest: digest.to_string(), bytes: json.len() as u64 };
        let record = version(&manifest, &stored);
        let best = is_best(&record, committed.best.as_deref(), publication);
        let run = &publication.run;
        let mut changes = Changes::default();
        // Zero-padded, so that the order of keys is the order of numbers.
        changes.put(&format!("version/{model}/{:012}", record.version), &record)?;
        changes.put(&format!("round/{}/{:010}", run.run, record.round), &RoundRecord { manifest: stored })?;
        changes.put(&format!("run/{}", run.run), run)?;
        if best {
            let alias = AliasRecord { model: model.clone(), alias: BEST.to_owned(), version: record.version };
            changes.put(&format!("alias/{model}/{BEST}"), &alias)?;
        }
        let seq = self.store.append(Some(publication.what.clone()), changes, carried)?;
        committed.last = record.version;
        if best {
            committed.best = Some(Arc::new(record.clone()));
        }
        Ok(Published { seq, manifest, record, best })
    }

    /// Shows a version, which is durable now.
    pub(crate) fn show(&self, published: Published) -> Manifest {
        let Published { manifest, record, best, .. } = published;
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let model = models.entry(record.model.clone()).or_default();
        if best {
            // Two runs of one model may be told in another order than they were committed.
            let alias = model.aliases.entry(BEST.to_owned()).or_default();
            *alias = record.version.max(*alias);
        }
        let at = model.versions.partition_point(|v| v.version < record.version);
        model.versions.insert(at, Arc::new(record));
        manifest
    }
}

/// Whether the version is better than the one that has the alias now.
fn is_best(record: &VersionRecord, before: Option<&VersionRecord>, publication: &Publication) -> bool {
    let word = publication.metric.word();
    let Some(value) = record.metrics.get(word) else { return false };
    let than = before.and_then(|before| before.metrics.get(word));
    than.is_none_or(|than| publication.metric.better(*value, *than))
}

fn version(manifest: &Manifest, stored: &BlobRecord) -> VersionRecord {
    let weights = &manifest.files[WEIGHTS];
    VersionRecord {
        model: manifest.model.clone(),
        version: manifest.version,
        weights: BlobRecord { digest: weights.digest.clone(), bytes: weights.bytes },
        manifest: stored.clone(),
        run: manifest.lineage.run.clone(),
        round: manifest.lineage.round,
        metrics: manifest.metrics.clone(),
        created_unix_ms: manifest.created_unix_ms,
    }
}

/// The digest that a record names.
pub(crate) fn digest(record: &BlobRecord) -> Result<Digest, StoreError> {
    record.digest.parse().map_err(|_| StoreError::Record {
        key: record.digest.clone(),
        cause: serde::de::Error::custom("not a digest"),
    })
}
