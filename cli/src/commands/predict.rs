//! Asking a model by the Open Inference Protocol v2 over gRPC.

mod decode;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    path::Path,
};

use proto::{
    convert,
    inference::{
        ModelInferRequest, ModelMetadataRequest, ModelMetadataResponse, model_infer_request::InferInputTensor,
    },
};
use serde::Serialize;

use self::decode::{Answer, Prediction};
use super::model;
use crate::{
    error::CliError,
    output::{self, Format, Table},
    reference::Reference,
    rows::Rows,
    session::Session,
};

/// The most numbers in one request: 1 MiB, well below what servers accept.
const REQUEST_VALUES_MAX: usize = 1 << 18;

const INPUT: &str = "input";

/// What predictions print as JSON.
#[derive(Debug, Serialize)]
struct Predicted {
    model: String,
    version: u64,
    digest: String,
    predictions: Vec<Labelled>,
}

/// One prediction, as JSON.
#[derive(Debug, PartialEq, Serialize)]
struct Labelled {
    label: String,
    probabilities: BTreeMap<String, f32>,
}

/// `conclave predict`.
pub(super) async fn run(
    session: &Session,
    format: Format,
    reference: &Reference,
    input: &Path,
) -> Result<(), CliError> {
    let shown = model::find(session, reference).await?;
    let summary = convert::required("summary", shown.summary)?;
    let manifest = model::manifest(&shown.manifest_json)?;
    let features = model::signature(&manifest, "features")?;
    let classes = model::signature(&manifest, "classes")?;
    if input == Path::new("-") && io::stdin().is_terminal() {
        output::note(&format!("reading rows from standard input, Ctrl-D ends them: {}", features.join(",")));
    }
    let rows = Rows::read(input, &features)?;

    // The number, not the alias: it must not move between two requests.
    let version = summary.version.to_string();
    let mut client = session.inference();
    let request = ModelMetadataRequest { name: summary.model.clone(), version: version.clone() };
    check(&client.model_metadata(request).await?.into_inner(), features.len())?;
    let mut digest = model_digest(&summary.digest)?;
    let mut predictions = Vec::with_capacity(rows.count());
    for values in rows.values.chunks(batch(rows.width) * rows.width) {
        let request = infer(&summary.model, &version, values, rows.width);
        let answer = client.model_infer(request).await?.into_inner();
        let answer = Answer::decode(answer, values.len() / rows.width, &classes)?;
        digest = answer.digest.unwrap_or(digest);
        predictions.extend(answer.predictions);
    }
    let predicted = Predicted {
        model: summary.model,
        version: summary.version,
        digest,
        predictions: predictions.iter().map(|p| labelled(p, &classes)).collect(),
    };
    match format {
        Format::Json => output::json(&predicted)?,
        Format::Jsonl => predicted.predictions.iter().try_for_each(output::jsonl)?,
        Format::Table => output::lines(&table(&predictions).lines())?,
    }
    if format != Format::Json {
        let Predicted { model, version, digest, .. } = &predicted;
        output::note(&format!("model {model}, version {version}, digest {}", output::clean(digest)));
    }
    Ok(())
}

/// How many rows go in one request.
fn batch(width: usize) -> usize {
    (REQUEST_VALUES_MAX / width.max(1)).max(1)
}

/// The model must take what we are going to send.
fn check(metadata: &ModelMetadataResponse, features: usize) -> Result<(), CliError> {
    let [input] = &metadata.inputs[..] else {
        let count = metadata.inputs.len();
        return Err(CliError::Answer(format!("the model has {count} inputs, this command can fill one")));
    };
    let width = i64::try_from(features).unwrap_or(i64::MAX);
    if input.name != INPUT || input.datatype != "FP32" || input.shape != [-1, width] {
        return Err(CliError::Answer(format!(
            "the model takes '{}' of {} {:?}, this command sends '{INPUT}' of FP32 [-1, {width}]",
            output::clean(&input.name),
            output::clean(&input.datatype),
            input.shape
        )));
    }
    Ok(())
}

fn infer(model: &str, version: &str, values: &[f32], width: usize) -> ModelInferRequest {
    let extent = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let input = InferInputTensor {
        name: INPUT.to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![extent(values.len() / width), extent(width)],
        ..InferInputTensor::default()
    };
    ModelInferRequest {
        model_name: model.to_owned(),
        model_version: version.to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![values.iter().flat_map(|v| v.to_le_bytes()).collect()],
        ..ModelInferRequest::default()
    }
}

fn model_digest(bytes: &[u8]) -> Result<String, CliError> {
    Ok(convert::digest("digest", bytes)?.to_string())
}

fn labelled(prediction: &Prediction, classes: &[String]) -> Labelled {
    let probabilities = classes.iter().cloned().zip(prediction.probabilities.iter().copied());
    Labelled { label: prediction.label.clone(), probabilities: probabilities.collect() }
}

fn table(predictions: &[Prediction]) -> Table {
    let mut table = Table::new(&["ROW", "LABEL", "PROBABILITY"], &[0, 2]);
    for (at, prediction) in predictions.iter().enumerate() {
        let probability = prediction.probabilities.iter().copied().fold(0.0, f32::max);
        table.row([&(at + 1).to_string(), &prediction.label, &format!("{probability:.4}")]);
    }
    table
}

#[cfg(test)]
mod tests {
    use proto::inference::model_metadata_response::TensorMetadata;

    use super::*;

    #[test]
    fn rows_travel_as_raw_little_endian_floats() {
        let request = infer("iris", "20", &[1.0, 2.0, 3.0, 4.0], 2);
        assert_eq!((request.model_name.as_str(), request.model_version.as_str()), ("iris", "20"));
        assert_eq!(
            (request.inputs[0].datatype.as_str(), &request.inputs[0].shape[..]),
            ("FP32", &[2, 2][..])
        );
        assert_eq!(request.raw_input_contents[0].len(), 16);
        assert_eq!(request.raw_input_contents[0][4..8], 2.0f32.to_le_bytes());
        assert_eq!((batch(4), batch(1 << 18), batch(1 << 20)), (65_536, 1, 1));
    }

    #[test]
    fn another_signature_is_refused() {
        let metadata = |name: &str, datatype: &str, shape: &[i64]| ModelMetadataResponse {
            inputs: vec![TensorMetadata {
                name: name.into(),
                datatype: datatype.into(),
                shape: shape.into(),
            }],
            ..Default::default()
        };
        assert!(check(&metadata("input", "FP32", &[-1, 4]), 4).is_ok());
        assert!(check(&ModelMetadataResponse::default(), 4).is_err());
        for (name, datatype, shape) in
            [("x", "FP32", &[-1, 4][..]), ("input", "FP64", &[-1, 4]), ("input", "FP32", &[-1, 5])]
        {
            assert!(check(&metadata(name, datatype, shape), 4).is_err(), "{name} {datatype} {shape:?}");
        }
    }

    #[test]
    fn predictions_for_people_and_programs() {
        let prediction = Prediction { label: "setosa".into(), probabilities: vec![0.98, 0.02] };
        assert_eq!(
            table(std::slice::from_ref(&prediction)).lines(),
            ["ROW  LABEL   PROBABILITY", "  1  setosa       0.9800"]
        );
        let json = serde_json::to_string(&labelled(&prediction, &["setosa".into(), "other".into()])).unwrap();
        assert_eq!(json, r#"{"label":"setosa","probabilities":{"other":0.02,"setosa":0.98}}"#);
    }
}
