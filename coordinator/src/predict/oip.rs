//! The Open Inference Protocol v2 without a transport: what a request asks, what an answer holds,
//! and the checks between them. Tensors: `input` FP32 `[rows, features]` in, `probabilities` FP32
//! `[rows, classes]` and `label` BYTES `[rows]` out.

use super::{Answer, PredictError, engine::Loaded};

/// An input tensor, decoded from whichever form it came in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) values: Values,
}

/// The numbers of an input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// An output tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Output {
    pub(crate) name: &'static str,
    pub(crate) datatype: &'static str,
    pub(crate) shape: Vec<i64>,
    pub(crate) values: OutputValues,
}

/// The elements of an output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OutputValues {
    F32(Vec<f32>),
    Text(Vec<String>),
}

const PROBABILITIES: &str = "probabilities";
const LABEL: &str = "label";

/// Checks the inputs of a request against the model and returns its rows.
pub(crate) fn features(model: &Loaded, mut inputs: Vec<Input>) -> Result<Vec<f32>, PredictError> {
    let refuse = |text: String| Err(PredictError::Input(text));
    let width = model.manifest.signature.features.len();
    let name = &model.manifest.model;
    let input = match (inputs.pop(), inputs.len()) {
        (Some(input), 0) => input,
        (last, rest) => {
            let count = rest + usize::from(last.is_some());
            return refuse(format!("model '{name}' takes one input named 'input', the request has {count}"));
        }
    };
    if input.name != "input" {
        return refuse(format!("model '{name}' has no input '{}', its input is 'input'", input.name));
    }
    let [rows, columns] = input.shape[..] else {
        return refuse(format!("input 'input' has shape {:?}, expected [rows, {width}]", input.shape));
    };
    if usize::try_from(columns) != Ok(width) || rows < 1 {
        return refuse(format!(
            "input 'input' has shape [{rows}, {columns}], expected [rows, {width}] for the features {}",
            model.manifest.signature.features.join(", ")
        ));
    }
    let values = match (input.datatype.as_str(), input.values) {
        ("FP32", Values::F32(values)) => values,
        ("FP32" | "FP64", Values::F64(values)) => values.into_iter().map(|v| v as f32).collect(),
        (other, _) => {
            return refuse(format!("input 'input' has datatype {other}, model '{name}' takes FP32"));
        }
    };
    let expected = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(width));
    if expected != Some(values.len()) {
        return refuse(format!("input 'input' of shape [{rows}, {columns}] holds {} values", values.len()));
    }
    Ok(values)
}

/// The outputs that a request asks for; all of them when it names none.
pub(crate) fn outputs(answer: &Answer, wanted: &[String]) -> Result<Vec<Output>, PredictError> {
    check_outputs(&answer.model, wanted)?;
    let rows = i64::try_from(answer.rows).unwrap_or(i64::MAX);
    let classes = i64::try_from(answer.model.manifest.signature.classes.len()).unwrap_or(i64::MAX);
    let make = |name: &str| match name {
        PROBABILITIES => Output {
            name: PROBABILITIES,
            datatype: "FP32",
            shape: vec![rows, classes],
            values: OutputValues::F32(answer.probabilities.clone()),
        },
        _ => Output {
            name: LABEL,
            datatype: "BYTES",
            shape: vec![rows],
            values: OutputValues::Text(answer.labels().into_iter().map(str::to_owned).collect()),
        },
    };
    Ok(match wanted.is_empty() {
        true => vec![make(PROBABILITIES), make(LABEL)],
        false => wanted.iter().map(|name| make(name)).collect(),
    })
}

/// Refuses outputs that the model does not have, before anything is computed.
pub(crate) fn check_outputs(model: &Loaded, wanted: &[String]) -> Result<(), PredictError> {
    match wanted.iter().find(|name| *name != PROBABILITIES && *name != LABEL) {
        None => Ok(()),
        Some(name) => Err(PredictError::Input(format!(
            "model '{}' has no output '{name}', its outputs are '{PROBABILITIES}' and '{LABEL}'",
            model.manifest.model
        ))),
    }
}

/// Elements as the protocol's raw bytes: little-endian, text with a 4-byte length before each.
pub(crate) fn raw(values: &OutputValues) -> Vec<u8> {
    match values {
        OutputValues::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        OutputValues::Text(values) => values
            .iter()
            .flat_map(|text| {
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                length.to_le_bytes().into_iter().chain(text.bytes())
            })
            .collect(),
    }
}

/// Reads the protocol's raw bytes of a float tensor.
pub(crate) fn from_raw(name: &str, datatype: &str, bytes: &[u8]) -> Result<Values, PredictError> {
    let refuse = |size: usize| {
        PredictError::Input(format!(
            "input '{name}' has {} raw bytes, not a multiple of {size} for {datatype}",
            bytes.len()
        ))
    };
    match datatype {
        "FP32" => {
            let (values, []) = bytes.as_chunks::<4>() else { return Err(refuse(4)) };
            Ok(Values::F32(values.iter().map(|b| f32::from_le_bytes(*b)).collect()))
        }
        "FP64" => {
            let (values, []) = bytes.as_chunks::<8>() else { return Err(refuse(8)) };
            Ok(Values::F64(values.iter().map(|b| f64::from_le_bytes(*b)).collect()))
        }
        other => Err(PredictError::Input(format!("input '{name}' has datatype {other}, FP32 is needed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_are_little_endian_with_lengths() {
        assert_eq!(raw(&OutputValues::F32(vec![1.0])), [0, 0, 0x80, 0x3f]);
        assert_eq!(
            raw(&OutputValues::Text(vec!["ab".into(), String::new()])),
            [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0]
        );
        assert_eq!(from_raw("input", "FP32", &[0, 0, 0x80, 0x3f]).unwrap(), Values::F32(vec![1.0]));
        let error = from_raw("input", "FP32", &[0; 5]).unwrap_err();
        assert_eq!(error.to_string(), "input 'input' has 5 raw bytes, not a multiple of 4 for FP32");
        assert!(from_raw("input", "INT8", &[]).unwrap_err().to_string().contains("INT8"));
    }

    proptest::proptest! {
        #[test]
        fn foreign_raw_bytes_never_panic(bytes: Vec<u8>, datatype in "(FP32|FP64|BYTES|)") {
            let _ = from_raw("input", &datatype, &bytes);
        }
    }
}
