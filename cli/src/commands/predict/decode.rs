use proto::inference::{
    ModelInferResponse, infer_parameter::ParameterChoice, model_infer_response::InferOutputTensor,
};

use crate::error::CliError;

/// One row's answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prediction {
    /// The most probable class.
    pub(super) label: String,
    /// In the order of the classes.
    pub(super) probabilities: Vec<f32>,
}

/// A decoded and checked response.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    /// Of the weights that answered, hexadecimal, where the server tells.
    pub(super) digest: Option<String>,
    /// One per row.
    pub(super) predictions: Vec<Prediction>,
}

impl Answer {
    /// Reads `probabilities` FP32 `[rows, classes]` and `label` BYTES `[rows]` from a response.
    pub(super) fn decode(
        response: ModelInferResponse,
        rows: usize,
        classes: &[String],
    ) -> Result<Self, CliError> {
        let digest = match response.parameters.get("digest").and_then(|p| p.parameter_choice.as_ref()) {
            Some(ParameterChoice::StringParam(digest)) => Some(digest.clone()),
            _ => None,
        };
        let probabilities = floats(&response, "probabilities")?;
        let labels = texts(&response, "label")?;
        if labels.len() != rows || probabilities.len() != rows * classes.len() {
            return Err(CliError::Answer(format!(
                "{} labels and {} probabilities for {rows} rows and {} classes",
                labels.len(),
                probabilities.len(),
                classes.len()
            )));
        }
        let probabilities = probabilities.chunks(classes.len().max(1)).map(<[f32]>::to_vec);
        let predictions = labels.into_iter().zip(probabilities);
        let predictions = predictions.map(|(label, probabilities)| Prediction { label, probabilities });
        Ok(Self { digest, predictions: predictions.collect() })
    }
}

/// An output, with its raw bytes where the server sends them raw.
fn output<'a>(
    response: &'a ModelInferResponse,
    name: &str,
    datatype: &str,
) -> Result<(&'a InferOutputTensor, Option<&'a [u8]>), CliError> {
    let found = response.outputs.iter().enumerate().find(|(_, output)| output.name == name);
    match found {
        Some((at, output)) if output.datatype == datatype => {
            Ok((output, response.raw_output_contents.get(at).map(Vec::as_slice)))
        }
        Some((_, output)) => {
            Err(CliError::Answer(format!("output '{name}' is {}, expected {datatype}", output.datatype)))
        }
        None => Err(CliError::Answer(format!("there is no output '{name}'"))),
    }
}

fn floats(response: &ModelInferResponse, name: &str) -> Result<Vec<f32>, CliError> {
    let (output, raw) = output(response, name, "FP32")?;
    let Some(raw) = raw else {
        return Ok(output.contents.as_ref().map(|c| c.fp32_contents.clone()).unwrap_or_default());
    };
    match raw.as_chunks::<4>() {
        (values, []) => Ok(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        _ => Err(CliError::Answer(format!("output '{name}' has {} bytes, not a multiple of 4", raw.len()))),
    }
}

fn texts(response: &ModelInferResponse, name: &str) -> Result<Vec<String>, CliError> {
    let (output, raw) = output(response, name, "BYTES")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Some(mut rest) = raw else {
        let contents = output.contents.as_ref().map(|c| c.bytes_contents.as_slice()).unwrap_or_default();
        return Ok(contents.iter().map(|bytes| text(bytes)).collect());
    };
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let element = rest.split_first_chunk::<4>().and_then(|(length, after)| {
            after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
        });
        let Some((element, after)) = element else {
            return Err(CliError::Answer(format!("output '{name}' ends inside an element")));
        };
        texts.push(text(element));
        rest = after;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::inference::{InferParameter, InferTensorContents};

    use super::*;

    fn classes() -> Vec<String> {
        vec!["a".into(), "b".into()]
    }

    fn response() -> ModelInferResponse {
        let tensor = |name: &str, datatype: &str| InferOutputTensor {
            name: name.into(),
            datatype: datatype.into(),
            ..Default::default()
        };
        let digest = InferParameter { parameter_choice: Some(ParameterChoice::StringParam("d1".into())) };
        ModelInferResponse {
            parameters: [("digest".to_owned(), digest)].into(),
            outputs: vec![tensor("probabilities", "FP32"), tensor("label", "BYTES")],
            raw_output_contents: vec![
                [0.75f32, 0.25].iter().flat_map(|v| v.to_le_bytes()).collect(),
                b"\x01\0\0\0a".to_vec(),
            ],
            ..Default::default()
        }
    }

    fn expected() -> Vec<Prediction> {
        vec![Prediction { label: "a".into(), probabilities: vec![0.75, 0.25] }]
    }

    #[test]
    fn raw_and_typed_contents() {
        let answer = Answer::decode(response(), 1, &classes()).unwrap();
        assert_eq!(answer, Answer { digest: Some("d1".into()), predictions: expected() });
        let mut typed = response();
        typed.parameters.clear();
        typed.raw_output_contents.clear();
        let contents = InferTensorContents { fp32_contents: vec![0.75, 0.25], ..Default::default() };
        typed.outputs[0].contents = Some(contents);
        let contents = InferTensorContents { bytes_contents: vec![b"a".to_vec()], ..Default::default() };
        typed.outputs[1].contents = Some(contents);
        let answer = Answer::decode(typed, 1, &classes()).unwrap();
        assert_eq!(answer, Answer { digest: None, predictions: expected() });
    }

    #[test]
    fn wrong_answers_are_told() {
        let fault = |change: &dyn Fn(&mut ModelInferResponse), rows| {
            let mut response = response();
            change(&mut response);
            Answer::decode(response, rows, &classes()).unwrap_err().to_string()
        };
        let cases: [(String, &str); 5] = [
            (fault(&|_| {}, 2), "1 labels and 2 probabilities for 2 rows and 2 classes"),
            (fault(&|r| r.outputs[0].name.clear(), 1), "there is no output 'probabilities'"),
            (fault(&|r| r.outputs[1].datatype = "FP32".into(), 1), "output 'label' is FP32, expected BYTES"),
            (
                fault(&|r| r.raw_output_contents[0].push(0), 1),
                "output 'probabilities' has 9 bytes, not a multiple of 4",
            ),
            (fault(&|r| r.raw_output_contents[1][3] = 255, 1), "output 'label' ends inside an element"),
        ];
        for (found, expected) in cases {
            assert!(found.ends_with(expected), "{found}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(first: Vec<u8>, second: Vec<u8>, rows in 0usize..4) {
            let response = ModelInferResponse { raw_output_contents: vec![first, second], ..response() };
            let _ = Answer::decode(response, rows, &classes());
        }
    }
}
