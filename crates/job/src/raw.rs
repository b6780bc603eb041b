//! The job file as it is written: every key optional, every number wide, nothing checked but the
//! names of keys and the types of values.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Job {
    pub(crate) name: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) model: Model,
    pub(crate) synthetic: Option<Synthetic>,
    pub(crate) data: Data,
    pub(crate) local: Local,
    pub(crate) rounds: Rounds,
    pub(crate) aggregate: Aggregate,
    pub(crate) evaluate: Evaluate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Model {
    pub(crate) arch: Option<String>,
    pub(crate) hidden: Option<Vec<i64>>,
    pub(crate) init: Option<String>,
    pub(crate) parameters: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Synthetic {
    pub(crate) update: Option<String>,
    pub(crate) buffers: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Data {
    pub(crate) name: Option<String>,
    pub(crate) hosted: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) features: Option<Vec<String>>,
    pub(crate) classes: Option<Vec<String>>,
    /// A number or a table: looked at by hand, because serde's message for neither helps nobody.
    pub(crate) holdout: Option<toml::Value>,
    pub(crate) partition: Option<Partition>,
    pub(crate) shards: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Partition {
    pub(crate) kind: Option<String>,
    pub(crate) alpha: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Local {
    pub(crate) mode: Option<String>,
    pub(crate) optimizer: Option<String>,
    pub(crate) lr: Option<f64>,
    pub(crate) momentum: Option<f64>,
    pub(crate) beta1: Option<f64>,
    pub(crate) beta2: Option<f64>,
    pub(crate) eps: Option<f64>,
    pub(crate) epochs: Option<i64>,
    pub(crate) batch: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rounds {
    pub(crate) count: Option<i64>,
    pub(crate) cohort: Cohort,
    pub(crate) deadline: Option<String>,
    pub(crate) seed: Option<i64>,
    pub(crate) gather: Option<String>,
    pub(crate) wait: Option<String>,
    pub(crate) attempts: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cohort {
    pub(crate) min: Option<i64>,
    pub(crate) max: Option<i64>,
    pub(crate) select: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Aggregate {
    pub(crate) reduction: Option<Worded<Reduction>>,
    pub(crate) weight: Option<String>,
    pub(crate) encoding: Option<Worded<Encoding>>,
    pub(crate) server: Option<Server>,
    pub(crate) coordinate_max: Option<f64>,
    pub(crate) norm_max: Option<f64>,
    pub(crate) tensors: Vec<TensorRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Reduction {
    pub(crate) kind: Option<String>,
    pub(crate) norm: Option<f64>,
    pub(crate) f: Option<i64>,
    pub(crate) m: Option<i64>,
    pub(crate) nu: Option<f64>,
    pub(crate) tau: Option<f64>,
    pub(crate) iterations: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Encoding {
    pub(crate) kind: Option<String>,
    pub(crate) block: Option<i64>,
    pub(crate) fraction: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    pub(crate) kind: Option<String>,
    pub(crate) lr: Option<f64>,
    pub(crate) momentum: Option<f64>,
    pub(crate) beta1: Option<f64>,
    pub(crate) beta2: Option<f64>,
    pub(crate) eps: Option<f64>,
    pub(crate) bias_correction: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TensorRule {
    #[serde(rename = "match")]
    pub(crate) pattern: Option<String>,
    pub(crate) policy: Option<String>,
    pub(crate) coordinate_max: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Evaluate {
    pub(crate) metric: Option<String>,
    pub(crate) patience: Option<i64>,
    pub(crate) min_delta: Option<f64>,
    pub(crate) hosted: Option<String>,
}

impl From<String> for Reduction {
    fn from(word: String) -> Self {
        Self { kind: Some(word), ..Self::default() }
    }
}

impl From<String> for Encoding {
    fn from(word: String) -> Self {
        Self { kind: Some(word), ..Self::default() }
    }
}

/// `key = "word"`, which is short for `key = { kind = "word" }`, or such a table with parameters.
#[derive(Debug)]
pub(crate) struct Worded<T> {
    pub(crate) is_word: bool,
    pub(crate) table: T,
}

impl<'de, T: Deserialize<'de> + From<String>> Deserialize<'de> for Worded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordedVisitor(PhantomData))
    }
}

/// By hand, because what serde derives for either form tells of no fault inside of the table.
struct WordedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + From<String>> Visitor<'de> for WordedVisitor<T> {
    type Value = Worded<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word, or a table with its kind and parameters")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
        Ok(Worded { is_word: true, table: word.to_owned().into() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let table = T::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Worded { is_word: false, table })
    }
}
