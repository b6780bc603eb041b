use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use model::{Device, ModelSpec, Predictor};
use params::Params;

use crate::{
    compute::{Compute, ComputeError},
    registry::{Manifest, Registry, RegistryError},
    store::VersionRecord,
};

/// Versions that stay loaded; the least recently used one is dropped.
const LOADED_MAX: usize = 8;

/// The most values that one request may need in one layer, input, hidden or output: 256 MiB.
const VALUES_MAX: usize = 1 << 26;

/// The most rows in one request.
pub(crate) const ROWS_MAX: usize = 65_536;

/// Why a request gets no prediction.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PredictError {
    /// No such model or version.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The weights do not fit the manifest, or libtorch refused.
    #[error("model: {0}")]
    Model(#[from] model::ModelError),
    /// The weights on disk do not parse.
    #[error("weights: {0}")]
    Params(#[from] params::ParamsError),
    /// The input does not fit the model's signature.
    #[error("{0}")]
    Input(String),
    /// Too many requests wait.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// A background thread is gone.
    #[error(transparent)]
    Panicked(#[from] service::task::Panicked),
}

/// Predictions for some rows, and what made them.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) model: Arc<Loaded>,
    pub(crate) rows: usize,
    /// `rows x classes`, row-major; each row sums to 1.
    pub(crate) probabilities: Vec<f32>,
}

/// A version that is ready to predict.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) manifest: Manifest,
    /// Of the weights, hexadecimal.
    pub(crate) digest: String,
    predictor: Predictor,
}

/// Loads versions on demand and computes on its own thread.
#[derive(Debug)]
pub(crate) struct Engine {
    registry: Arc<Registry>,
    compute: Compute,
    device: Device,
    loaded: Mutex<VecDeque<Arc<Loaded>>>,
    /// Held while a version is read, so that many requests for a new one read it once.
    loading: tokio::sync::Mutex<()>,
    tasks: service::task::Tasks,
}

impl Engine {
    pub(crate) fn new(
        registry: Arc<Registry>,
        compute: Compute,
        device: Device,
        tasks: service::task::Tasks,
    ) -> Self {
        Self {
            registry,
            compute,
            device,
            loaded: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            tasks,
        }
    }

    /// The manifest of a version, without loading its weights.
    pub(crate) async fn manifest(&self, model: &str, reference: &str) -> Result<Manifest, PredictError> {
        let record = self.registry.resolve(model, reference)?;
        if let Some(loaded) = self.find(&record) {
            return Ok(loaded.manifest.clone());
        }
        let registry = self.registry.clone();
        let read = move || registry.manifest(&record);
        Ok(self.tasks.blocking("read manifest", read).await??)
    }

    /// All versions of a model, oldest first.
    pub(crate) fn versions(&self, model: &str) -> Result<Vec<u64>, PredictError> {
        Ok(self.registry.versions(model)?.iter().map(|v| v.version).collect())
    }

    /// The version that a reference means now, ready to predict.
    pub(crate) async fn load(&self, model: &str, reference: &str) -> Result<Arc<Loaded>, PredictError> {
        let record = self.registry.resolve(model, reference)?;
        if let Some(loaded) = self.find(&record) {
            return Ok(loaded);
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(loaded) = self.find(&record) {
            return Ok(loaded);
        }
        let (registry, device) = (self.registry.clone(), self.device);
        let read = move || -> Result<_, PredictError> {
            let manifest = registry.manifest(&record)?;
            let spec = spec(&manifest)?;
            let weights = Params::from_safetensors(&registry.weights(&record)?)?;
            Ok((manifest, spec, weights, record.weights.digest.clone()))
        };
        let (manifest, spec, weights, digest) = self.tasks.blocking("read version", read).await??;
        let predictor = self.compute.run(move || Predictor::load(&device, &spec, &weights)).await??;
        let loaded = Arc::new(Loaded { manifest, digest, predictor });
        let mut all = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_front(loaded.clone());
        all.truncate(LOADED_MAX);
        Ok(loaded)
    }

    /// Predicts `features` (row-major) with a loaded version.
    pub(crate) async fn predict(
        &self,
        model: Arc<Loaded>,
        features: Vec<f32>,
    ) -> Result<Answer, PredictError> {
        let signature = &model.manifest.signature;
        let width = signature.features.len();
        if features.is_empty() || !features.len().is_multiple_of(width) {
            return Err(PredictError::Input(format!(
                "{} values do not make rows of {width} features ({})",
                features.len(),
                signature.features.join(", ")
            )));
        }
        let rows = features.len() / width;
        if rows > ROWS_MAX {
            return Err(PredictError::Input(format!(
                "{rows} rows in one request, at most {ROWS_MAX} are allowed: split it"
            )));
        }
        let architecture = &model.manifest.architecture;
        let widest =
            architecture.hidden.iter().copied().chain([width, architecture.outputs]).max().unwrap_or(width);
        if rows.saturating_mul(widest) > VALUES_MAX {
            return Err(PredictError::Input(format!(
                "{rows} rows through layers of {widest} make more than {VALUES_MAX} values: send fewer rows at once"
            )));
        }
        if let Some(at) = features.iter().position(|v| !v.is_finite()) {
            return Err(PredictError::Input(format!(
                "row {}, feature '{}' is {}: finite numbers are needed",
                at / width,
                signature.features[at % width],
                features[at]
            )));
        }
        let used = model.clone();
        let probabilities = self.compute.run(move || used.predictor.predict(&features, rows)).await??;
        Ok(Answer { model, rows, probabilities })
    }

    fn find(&self, record: &VersionRecord) -> Option<Arc<Loaded>> {
        let mut all = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all
            .iter()
            .position(|l| l.manifest.model == record.model && l.manifest.version == record.version)?;
        let loaded = all.remove(at)?;
        all.push_front(loaded.clone());
        Some(loaded)
    }
}

impl Answer {
    /// The most probable class of each row; of equals the first.
    pub(crate) fn labels(&self) -> Vec<&str> {
        let classes = &self.model.manifest.signature.classes;
        self.probabilities
            .chunks_exact(classes.len().max(1))
            .map(|row| {
                let mut best = 0;
                for (class, p) in row.iter().enumerate() {
                    if *p > row[best] {
                        best = class;
                    }
                }
                classes[best].as_str()
            })
            .collect()
    }
}

/// The network that the weights of a version fill. A synthetic model has none: that is found before its
/// weights are read, which may be large.
fn spec(manifest: &Manifest) -> Result<ModelSpec, PredictError> {
    let architecture = &manifest.architecture;
    let spec = ModelSpec {
        arch: architecture.arch.clone(),
        inputs: architecture.inputs,
        hidden: architecture.hidden.clone(),
        outputs: architecture.outputs,
    };
    if spec.is_synthetic() {
        let why = model::ModelError::Synthetic;
        return Err(PredictError::Input(format!("model '{}': {why}", manifest.model)));
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synthetic_model_is_refused_before_its_weights_are_read() {
        let mut manifest: Manifest = serde_json::from_str(
            r#"{"format": 1, "model": "load", "version": 3, "task": "synthetic",
                "architecture": {"arch": "synthetic", "inputs": 0, "hidden": [1000], "outputs": 0},
                "signature": {"features": [], "classes": [], "inputs": [], "outputs": []}, "metrics": {},
                "lineage": {"run": "load-1", "round": 3, "base": "", "job": "", "cohort": [], "updates": 4,
                            "examples": 4, "seconds": 0.5, "bytes_up": 1, "bytes_down": 1},
                "files": {}, "created_unix_ms": 1}"#,
        )
        .unwrap();
        assert!(
            matches!(spec(&manifest), Err(PredictError::Input(text)) if text == "model 'load': a synthetic model predicts nothing")
        );
        manifest.architecture.arch = "mlp".to_owned();
        let mlp = ModelSpec { arch: "mlp".to_owned(), ..ModelSpec::synthetic(1000) };
        assert_eq!(spec(&manifest).unwrap(), mlp);
    }
}
