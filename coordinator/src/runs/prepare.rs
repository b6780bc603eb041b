use std::{collections::BTreeMap, sync::Arc};

use data::{Labelled, Limits, Schema};
use job::{Job, Metric, Task};
use model::ModelSpec;
use params::{Digest, Layout, Name, Params};
use serde::{Deserialize, Serialize};

use crate::{
    plan::{self, Exchange, PlanError},
    registry,
    store::{BlobRecord, Blobs, RunRecord},
};

/// What a job file names, resolved once when the run starts: stored as a blob, so that a restarted
/// coordinator goes on with the same shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Prepared {
    /// Columns in the order of the model's inputs.
    pub(crate) features: Vec<String>,
    /// Labels in the order of the model's outputs.
    pub(crate) classes: Vec<String>,
    /// Hosted data only: one CSV per shard.
    pub(crate) shards: Option<Vec<Shard>>,
    /// The test rows of hosted data, or the table of `evaluate.hosted`, CSV.
    pub(crate) holdout: Option<BlobRecord>,
    /// Synthetic runs only: how many shards there are, each of one example and no table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) synthetic_shards: Option<u32>,
}

/// One shard of a hosted table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shard {
    pub(crate) table: BlobRecord,
    pub(crate) examples: u64,
}

/// What stays the same for a whole run.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) run: Name,
    pub(crate) job: Job,
    pub(crate) job_text: String,
    pub(crate) prepared: Prepared,
    pub(crate) network: ModelSpec,
    pub(crate) layout: Layout,
    pub(crate) exchange: Exchange,
    /// The coordinator's own test rows.
    pub(crate) holdout: Option<Arc<Labelled>>,
    pub(crate) started_unix_ms: u64,
}

/// Resolves a job: reads and partitions a hosted table, makes or reads the initial weights, and
/// stores all of it. Returns the record of the run-to-be, without its name.
pub(crate) fn prepare(
    job: &Job,
    job_text: &str,
    attachments: &BTreeMap<String, Digest>,
    blobs: &Blobs,
    upload_bytes_max: u64,
) -> Result<RunRecord, PlanError> {
    let attachment = |path: &str| -> Result<Vec<u8>, PlanError> {
        let digest = attachments.get(path).ok_or_else(|| PlanError::Attachment(path.to_owned()))?;
        Ok(blobs.get(digest)?)
    };
    let prepared = match (job.task, &job.data.hosted) {
        (Task::Synthetic(_), _) => synthetic(job)?,
        (Task::Classification, Some(path)) => hosted(job, path, &attachment(path)?, blobs)?,
        (Task::Classification, None) => private(job, attachment, blobs)?,
    };
    let network = plan::network(job, prepared.features.len(), prepared.classes.len());
    let layout = model::layout(&network)?;
    let exchange = plan::exchange(job, &layout)?;
    let bytes = exchange.form.bytes(&exchange.encoding);
    if bytes > upload_bytes_max {
        return Err(PlanError::Size { elements: layout.elements(), bytes, bytes_max: upload_bytes_max });
    }
    let base = put(blobs, &initial(job, &network, &layout, attachment)?)?;
    let prepared = serde_json::to_vec(&prepared)
        .map_err(|cause| crate::store::StoreError::Record { key: "prepared".to_owned(), cause })?;
    Ok(RunRecord {
        run: String::new(),
        model: job.name.to_string(),
        job: put(blobs, job_text.as_bytes())?,
        prepared: put(blobs, &prepared)?,
        started_unix_ms: 0,
        rounds: job.rounds.count,
        committed: 0,
        base,
        optimizer: None,
        ledger: None,
        state: crate::store::RunState::Active,
        cause: String::new(),
    })
}

/// Reads and cuts a hosted table.
fn hosted(job: &Job, path: &str, bytes: &[u8], blobs: &Blobs) -> Result<Prepared, PlanError> {
    let table = data::read_csv(path, bytes, &Limits::default())?;
    let schema = table.schema(&job.data.target, job.data.features.as_deref(), job.data.classes.as_deref())?;
    let all = table.examples(&schema)?;
    let split = data::split(table.rows(), Some(all.labels()), &plan::holdout(job), job.rounds.seed)?;
    let labels: Vec<u32> = split.train.iter().map(|&row| all.labels()[row]).collect();
    let count = plan::shards(job)? as usize;
    let mut shards = Vec::with_capacity(count);
    for part in data::partition(&labels, count, &plan::partition(job, labels.len(), count), job.rounds.seed)?
    {
        let rows: Vec<usize> = part.iter().map(|&at| split.train[at]).collect();
        let table = put(blobs, &table.select(&rows).to_csv())?;
        shards.push(Shard { table, examples: rows.len() as u64 });
    }
    let holdout = match split.test.is_empty() {
        true => None,
        false => Some(put(blobs, &table.select(&split.test).to_csv())?),
    };
    let metric = job.evaluate.metric;
    if holdout.is_none() && metric != Metric::TrainLoss && job.evaluate.patience.is_some() {
        return Err(PlanError::Unmeasured { metric: metric.word() });
    }
    let Schema { features, classes, .. } = schema;
    Ok(Prepared { features, classes, shards: Some(shards), holdout, synthetic_shards: None })
}

/// Workers' own tables, and the coordinator's test table where the job has one.
fn private(
    job: &Job,
    attachment: impl Fn(&str) -> Result<Vec<u8>, PlanError>,
    blobs: &Blobs,
) -> Result<Prepared, PlanError> {
    // The job file's validation demands both where no table is hosted.
    let features = job.data.features.clone().unwrap_or_default();
    let classes = job.data.classes.clone().unwrap_or_default();
    let holdout = match &job.evaluate.hosted {
        None => None,
        Some(path) => {
            let bytes = attachment(path)?;
            let table = data::read_csv(path, &bytes, &Limits::default()).map_err(PlanError::Holdout)?;
            let schema = table.schema(&job.data.target, Some(&features), Some(&classes));
            schema.and_then(|schema| table.examples(&schema)).map_err(PlanError::Holdout)?;
            Some(put(blobs, &bytes)?)
        }
    };
    Ok(Prepared { features, classes, shards: None, holdout, synthetic_shards: None })
}

/// Shards of nothing.
fn synthetic(job: &Job) -> Result<Prepared, PlanError> {
    Ok(Prepared {
        features: Vec::new(),
        classes: Vec::new(),
        shards: None,
        holdout: None,
        synthetic_shards: Some(plan::shards(job)?),
    })
}

/// The file of the initial weights. The weights themselves are gone when it is stored: a large model
/// is in memory as few times as can be.
fn initial(
    job: &Job,
    network: &ModelSpec,
    layout: &Layout,
    attachment: impl Fn(&str) -> Result<Vec<u8>, PlanError>,
) -> Result<Vec<u8>, PlanError> {
    let weights = match &job.model.init {
        None => model::init(network, job.rounds.seed)?,
        Some(path) => given(path, &attachment(path)?, layout)?,
    };
    weights.to_safetensors().map_err(|e| PlanError::Init {
        path: job.model.init.clone().unwrap_or_default(),
        reason: e.to_string(),
    })
}

/// Initial weights that the user gave.
fn given(path: &str, bytes: &[u8], layout: &Layout) -> Result<Params, PlanError> {
    let fail = |reason: String| PlanError::Init { path: path.to_owned(), reason };
    let weights = Params::from_safetensors(bytes).map_err(|e| fail(e.to_string()))?;
    if let Some(difference) = layout.difference(weights.layout()) {
        return Err(fail(format!("{difference}: the file must hold the tensors of the job's architecture")));
    }
    if let Some((tensor, index, value)) = weights.first_not_finite() {
        return Err(fail(format!("tensor '{tensor}' holds {value} at {index}, finite numbers are needed")));
    }
    Ok(weights)
}

/// Stores bytes and tells their record.
pub(crate) fn put(blobs: &Blobs, bytes: &[u8]) -> Result<BlobRecord, crate::store::StoreError> {
    Ok(BlobRecord { digest: blobs.put(bytes)?.to_string(), bytes: bytes.len() as u64 })
}

impl Context {
    /// Reads back what [`prepare`] stored.
    pub(crate) fn load(record: &RunRecord, run: Name, blobs: &Blobs) -> Result<Self, PlanError> {
        let job_text = String::from_utf8_lossy(&blobs.get(&registry::digest(&record.job)?)?).into_owned();
        let job = Job::parse(&job_text)?;
        let prepared = blobs.get(&registry::digest(&record.prepared)?)?;
        let prepared: Prepared = serde_json::from_slice(&prepared).map_err(|cause| {
            crate::store::StoreError::Record { key: record.prepared.digest.clone(), cause }
        })?;
        let network = plan::network(&job, prepared.features.len(), prepared.classes.len());
        let layout = model::layout(&network)?;
        let exchange = plan::exchange(&job, &layout)?;
        let holdout = match &prepared.holdout {
            None => None,
            Some(blob) => {
                let table =
                    data::read_csv("holdout", &blobs.get(&registry::digest(blob)?)?, &Limits::default())?;
                let schema = Schema {
                    target: job.data.target.clone(),
                    features: prepared.features.clone(),
                    classes: prepared.classes.clone(),
                };
                Some(Arc::new(table.examples(&schema)?))
            }
        };
        let started_unix_ms = record.started_unix_ms;
        Ok(Self { run, job, job_text, prepared, network, layout, exchange, holdout, started_unix_ms })
    }

    /// The protocol's plan for `rounds` rounds.
    pub(crate) fn plan(&self, rounds: u32, lease_ms: u64) -> round::Plan {
        let Prepared { shards, synthetic_shards, .. } = &self.prepared;
        let hosted = shards.as_ref().map(|s| s.iter().map(|s| s.examples).collect());
        let handed_out = hosted.or_else(|| synthetic_shards.map(|shards| vec![1; shards as usize]));
        let mut plan = plan::protocol(&self.job, handed_out, rounds, lease_ms);
        if self.prepared.shards.is_some() && self.prepared.holdout.is_none() {
            plan.evaluation = round::Evaluation::None;
        }
        plan
    }
}

#[cfg(test)]
mod tests;
