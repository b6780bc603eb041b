//! The Open Inference Protocol v2 over HTTP, JSON tensors; and the health pages. Plain HTTP: the
//! coordinator serves it on loopback only.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State, rejection::BytesRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use proto::error::{ErrorCode, WireError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::inference::{PLATFORM, SERVER_NAME, SERVER_VERSION, refusal};
use crate::predict::{
    Engine, PredictError,
    oip::{Input, OutputValues, Values, check_outputs, features, outputs},
};

/// The largest request body, in bytes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// How deep the nested form of `data` may be: rows of features.
const NESTING_MAX: usize = 2;

/// All pages.
pub(crate) fn router(engine: Arc<Engine>) -> Router {
    let ok = || async { "ok\n" };
    Router::new()
        .route("/healthz", get(ok))
        .route("/readyz", get(ok))
        .route("/v2", get(server))
        .route("/v2/health/live", get(|| async { Json(json!({ "live": true })) }))
        .route("/v2/health/ready", get(|| async { Json(json!({ "live": true, "ready": true })) }))
        .route("/v2/models/{model}", get(metadata))
        .route("/v2/models/{model}/versions/{version}", get(metadata))
        .route("/v2/models/{model}/ready", get(ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(ready))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer))
        .fallback(|| async {
            Refused(WireError::not_found(
                "no such page; try /v2 or /v2/models/MODEL, or POST /v2/models/MODEL/infer",
            ))
        })
        .method_not_allowed_fallback(|| async {
            let refused = Refused(WireError::invalid(
                "this page does not take that method; predictions are POST requests",
            ));
            let mut response = refused.into_response();
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(engine)
}

/// `{"error": ...}` with the status of the error's code.
struct Refused(WireError);

impl From<PredictError> for Refused {
    fn from(error: PredictError) -> Self {
        Self(refusal(error))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::Busy => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let mut response = (status, Json(json!({ "error": self.0.message }))).into_response();
        if let Some(wait) = self.0.retry_after {
            let seconds = wait.as_secs().max(1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// `/models/{model}` with or without `/versions/{version}`.
#[derive(Debug, Deserialize)]
struct Which {
    model: String,
    #[serde(default)]
    version: String,
}

async fn server() -> Json<Value> {
    Json(json!({ "name": SERVER_NAME, "version": SERVER_VERSION, "extensions": [] }))
}

async fn metadata(
    State(engine): State<Arc<Engine>>,
    Path(which): Path<Which>,
) -> Result<Json<Value>, Refused> {
    let manifest = engine.manifest(&which.model, &which.version).await?;
    let versions: Vec<String> = engine.versions(&which.model)?.iter().map(u64::to_string).collect();
    Ok(Json(json!({
        "name": manifest.model,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": manifest.signature.inputs,
        "outputs": manifest.signature.outputs,
    })))
}

async fn ready(State(engine): State<Arc<Engine>>, Path(which): Path<Which>) -> Result<Json<Value>, Refused> {
    let loaded = engine.load(&which.model, &which.version).await?;
    Ok(Json(json!({ "name": loaded.manifest.model, "ready": true })))
}

/// Unknown fields are accepted: clients of this protocol send some.
#[derive(Debug, Deserialize)]
struct InferRequest {
    #[serde(default)]
    id: String,
    inputs: Vec<InputTensor>,
    #[serde(default)]
    outputs: Vec<RequestedOutput>,
}

#[derive(Debug, Deserialize)]
struct InputTensor {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    data: Value,
}

#[derive(Debug, Deserialize)]
struct RequestedOutput {
    name: String,
}

#[derive(Debug, Serialize)]
struct InferResponse {
    model_name: String,
    model_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    parameters: Value,
    outputs: Vec<Value>,
}

async fn infer(
    State(engine): State<Arc<Engine>>,
    Path(which): Path<Which>,
    // Clients of this protocol send no content type, so the body is taken as it is.
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<InferResponse>, Refused> {
    let body = body.map_err(|e| {
        Refused(WireError::invalid(format!(
            "request body: {}, at most {BODY_BYTES_MAX} bytes are read",
            e.body_text()
        )))
    })?;
    let request = parse(&body)?;
    let model = engine.load(&which.model, &which.version).await?;
    let wanted: Vec<String> = request.outputs.into_iter().map(|o| o.name).collect();
    check_outputs(&model, &wanted)?;
    let rows = features(&model, request.inputs.into_iter().map(input).collect::<Result<_, _>>()?)?;
    let answer = engine.predict(model, rows).await?;
    let outputs = outputs(&answer, &wanted)?.into_iter().map(|o| {
        let data = match o.values {
            OutputValues::F32(values) => json!(values),
            OutputValues::Text(values) => json!(values),
        };
        json!({ "name": o.name, "datatype": o.datatype, "shape": o.shape, "data": data })
    });
    Ok(Json(InferResponse {
        model_name: answer.model.manifest.model.clone(),
        model_version: answer.model.manifest.version.to_string(),
        id: request.id,
        parameters: json!({ "digest": answer.model.digest }),
        outputs: outputs.collect(),
    }))
}

fn parse(body: &[u8]) -> Result<InferRequest, PredictError> {
    serde_json::from_slice(body).map_err(|e| {
        PredictError::Input(format!(
            "request body: {e}; expected {{\"inputs\":[{{\"name\":\"input\",\"shape\":[rows,features],\"datatype\":\"FP32\",\"data\":[...]}}]}}"
        ))
    })
}

fn input(tensor: InputTensor) -> Result<Input, PredictError> {
    let mut values = Vec::new();
    flatten(&tensor.data, NESTING_MAX, &mut values).map_err(|found| {
        PredictError::Input(format!("input '{}': data holds {found}, numbers are needed", tensor.name))
    })?;
    Ok(Input {
        name: tensor.name,
        datatype: tensor.datatype,
        shape: tensor.shape,
        values: Values::F64(values),
    })
}

/// `data` is nested or flat, row-major. The error is what was found instead of a number.
fn flatten(data: &Value, depth: usize, values: &mut Vec<f64>) -> Result<(), String> {
    match data {
        Value::Array(items) if depth > 0 => {
            items.iter().try_for_each(|item| flatten(item, depth - 1, values))
        }
        Value::Number(number) => {
            values.push(number.as_f64().unwrap_or(f64::NAN));
            Ok(())
        }
        Value::Array(_) => Err("lists nested too deep".to_owned()),
        other => Err(other.to_string().chars().take(40).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(json: &str) -> Result<Vec<f64>, String> {
        let mut values = Vec::new();
        flatten(&serde_json::from_str(json).unwrap(), NESTING_MAX, &mut values).map(|()| values)
    }

    #[test]
    fn data_is_flat_or_nested() {
        assert_eq!(values("[1,2.5,3]").unwrap(), [1.0, 2.5, 3.0]);
        assert_eq!(values("[[1,2],[3,4]]").unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(values("[1,\"two\"]").unwrap_err(), "\"two\"");
        assert_eq!(values("[[[1]]]").unwrap_err(), "lists nested too deep");
        assert_eq!(values("[null]").unwrap_err(), "null");
    }

    proptest::proptest! {
        #[test]
        fn foreign_bodies_never_panic(bytes: Vec<u8>, text in "[\\[\\]{}:,\"a-z0-9.eE-]{0,200}", cut in 0usize..140) {
            let good = r#"{"id":"7","inputs":[{"name":"input","shape":[1,4],"datatype":"FP32","data":[[1,2.5,3,4]]}],"outputs":[{"name":"label"}]}"#;
            let cut = cut.min(good.len());
            let spliced = format!("{}{text}{}", &good[..cut], &good[cut..]);
            for body in [&bytes[..], text.as_bytes(), spliced.as_bytes()] {
                if let Ok(request) = parse(body) {
                    request.inputs.into_iter().for_each(|tensor| drop(input(tensor)));
                }
            }
        }
    }

    #[test]
    fn a_bad_body_shows_the_right_form() {
        let text = parse(b"{\"instances\": []}").unwrap_err().to_string();
        assert!(text.contains("missing field `inputs`") && text.contains("FP32"), "{text}");
        // A number that does not fit JSON's floats cannot smuggle an infinity in.
        assert!(
            parse(
                b"{\"inputs\":[{\"name\":\"input\",\"shape\":[1,1],\"datatype\":\"FP32\",\"data\":[1e999]}]}"
            )
            .is_err()
        );
    }
}
