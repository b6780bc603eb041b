use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The file of the weights in a version.
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// What a version is and where it comes from: `manifest.json` beside `model.safetensors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Of this file.
    pub(crate) format: u32,
    pub(crate) model: String,
    pub(crate) version: u64,
    pub(crate) task: String,
    pub(crate) architecture: Architecture,
    pub(crate) signature: Signature,
    /// `train_loss` of the round that made it, `test_loss` and `test_accuracy` of the version itself.
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) lineage: Lineage,
    /// File name to digest and size.
    pub(crate) files: BTreeMap<String, File>,
    pub(crate) created_unix_ms: u64,
}

/// How to build the network that the weights fill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Architecture {
    pub(crate) arch: String,
    pub(crate) inputs: usize,
    pub(crate) hidden: Vec<usize>,
    pub(crate) outputs: usize,
}

/// What goes in and what comes out; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Signature {
    /// Column names in the order of the input.
    pub(crate) features: Vec<String>,
    /// Labels in the order of the probabilities.
    pub(crate) classes: Vec<String>,
    pub(crate) inputs: Vec<TensorMeta>,
    pub(crate) outputs: Vec<TensorMeta>,
}

/// A tensor as the Open Inference Protocol describes it; -1 is a variable extent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TensorMeta {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
}

/// Where a version comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lineage {
    pub(crate) run: String,
    pub(crate) round: u32,
    /// BLAKE3 of the weights that the round started from.
    pub(crate) base: String,
    /// BLAKE3 of the job file.
    pub(crate) job: String,
    /// The workers that were picked, sorted.
    pub(crate) cohort: Vec<String>,
    /// How many of them are in it.
    pub(crate) updates: u32,
    /// Training examples behind it.
    pub(crate) examples: u64,
    pub(crate) seconds: f64,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct File {
    /// BLAKE3, hexadecimal.
    pub(crate) digest: String,
    pub(crate) bytes: u64,
}

impl Signature {
    /// A classifier over rows of numbers: `input` FP32 `[rows, features]` to `probabilities` FP32
    /// `[rows, classes]` and `label` BYTES `[rows]`.
    pub(crate) fn classifier(features: Vec<String>, classes: Vec<String>) -> Self {
        let tensor = |name: &str, datatype: &str, shape: &[i64]| TensorMeta {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
        };
        let extent = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            inputs: vec![tensor("input", "FP32", &[-1, extent(features.len())])],
            outputs: vec![
                tensor("probabilities", "FP32", &[-1, extent(classes.len())]),
                tensor("label", "BYTES", &[-1]),
            ],
            features,
            classes,
        }
    }
}
