//! `inference.GRPCInferenceService`: the Open Inference Protocol v2 over gRPC.

use std::{collections::HashMap, sync::Arc};

use proto::{
    error::WireError,
    inference::{
        self as oip, grpc_inference_service_server::GrpcInferenceService as Service,
        infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
        model_infer_response::InferOutputTensor, model_metadata_response::TensorMetadata,
    },
};
use tonic::{Request, Response, Status};

use super::errors;
use crate::{
    predict::{
        Engine, PredictError,
        oip::{Input, Output, OutputValues, Values, check_outputs, features, from_raw, outputs, raw},
    },
    registry::TensorMeta,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Inference {
    pub(crate) engine: Arc<Engine>,
}

/// The name and version of the server, and the protocol's extensions that it has.
pub(super) const SERVER_NAME: &str = "conclave";
pub(super) const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");
pub(super) const PLATFORM: &str = "conclave_safetensors";

#[tonic::async_trait]
impl Service for Inference {
    async fn server_live(
        &self,
        _: Request<oip::ServerLiveRequest>,
    ) -> Result<Response<oip::ServerLiveResponse>, Status> {
        Ok(Response::new(oip::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<oip::ServerReadyRequest>,
    ) -> Result<Response<oip::ServerReadyResponse>, Status> {
        Ok(Response::new(oip::ServerReadyResponse { ready: true }))
    }

    async fn model_ready(
        &self,
        request: Request<oip::ModelReadyRequest>,
    ) -> Result<Response<oip::ModelReadyResponse>, Status> {
        let message = request.into_inner();
        // As other servers of this protocol: an unknown model is not ready, which is not an error.
        let ready =
            match self.engine.load(&message.name, &message.version).await.map_err(errors::from_predict) {
                Ok(_) => true,
                Err(refusal) if refusal.code == proto::error::ErrorCode::NotFound => false,
                Err(refusal) => return Err(refusal.into()),
            };
        Ok(Response::new(oip::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<oip::ServerMetadataRequest>,
    ) -> Result<Response<oip::ServerMetadataResponse>, Status> {
        Ok(Response::new(oip::ServerMetadataResponse {
            name: SERVER_NAME.to_owned(),
            version: SERVER_VERSION.to_owned(),
            extensions: Vec::new(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<oip::ModelMetadataRequest>,
    ) -> Result<Response<oip::ModelMetadataResponse>, Status> {
        let message = request.into_inner();
        let manifest =
            self.engine.manifest(&message.name, &message.version).await.map_err(errors::from_predict)?;
        let versions = self.engine.versions(&message.name).map_err(errors::from_predict)?;
        let tensor = |t: TensorMeta| TensorMetadata { name: t.name, datatype: t.datatype, shape: t.shape };
        Ok(Response::new(oip::ModelMetadataResponse {
            name: manifest.model,
            versions: versions.iter().map(u64::to_string).collect(),
            platform: PLATFORM.to_owned(),
            inputs: manifest.signature.inputs.into_iter().map(tensor).collect(),
            outputs: manifest.signature.outputs.into_iter().map(tensor).collect(),
        }))
    }

    async fn model_infer(
        &self,
        request: Request<oip::ModelInferRequest>,
    ) -> Result<Response<oip::ModelInferResponse>, Status> {
        let response = self.infer(request.into_inner()).await.map_err(errors::from_predict)?;
        Ok(Response::new(response))
    }
}

impl Inference {
    async fn infer(&self, request: oip::ModelInferRequest) -> Result<oip::ModelInferResponse, PredictError> {
        let model = self.engine.load(&request.model_name, &request.model_version).await?;
        let wanted: Vec<String> = request.outputs.into_iter().map(|o| o.name).collect();
        check_outputs(&model, &wanted)?;
        let as_raw = !request.raw_input_contents.is_empty();
        let rows = features(&model, decode(request.inputs, &request.raw_input_contents)?)?;
        let answer = self.engine.predict(model, rows).await?;
        let outputs = outputs(&answer, &wanted)?;
        let digest = oip::InferParameter {
            parameter_choice: Some(ParameterChoice::StringParam(answer.model.digest.clone())),
        };
        Ok(oip::ModelInferResponse {
            model_name: answer.model.manifest.model.clone(),
            model_version: answer.model.manifest.version.to_string(),
            id: request.id,
            parameters: HashMap::from([("digest".to_owned(), digest)]),
            // A raw request gets a raw answer.
            raw_output_contents: if as_raw {
                outputs.iter().map(|o| raw(&o.values)).collect()
            } else {
                Vec::new()
            },
            outputs: outputs.into_iter().map(|o| encode(o, as_raw)).collect(),
        })
    }
}

/// Inputs with raw bytes or with typed contents, never a mix.
fn decode(inputs: Vec<InferInputTensor>, raw: &[Vec<u8>]) -> Result<Vec<Input>, PredictError> {
    if !raw.is_empty() && (raw.len() != inputs.len() || inputs.iter().any(|i| i.contents.is_some())) {
        return Err(PredictError::Input(format!(
            "{} raw_input_contents for {} inputs: send one for each input, and no typed contents beside them",
            raw.len(),
            inputs.len()
        )));
    }
    inputs
        .into_iter()
        .enumerate()
        .map(|(at, input)| {
            let values = match (raw.get(at), input.contents) {
                (Some(bytes), _) => from_raw(&input.name, &input.datatype, bytes)?,
                (None, Some(contents)) if input.datatype == "FP64" => Values::F64(contents.fp64_contents),
                (None, contents) => Values::F32(contents.unwrap_or_default().fp32_contents),
            };
            Ok(Input { name: input.name, datatype: input.datatype, shape: input.shape, values })
        })
        .collect()
}

fn encode(output: Output, as_raw: bool) -> InferOutputTensor {
    let contents = (!as_raw).then(|| {
        let mut contents = oip::InferTensorContents::default();
        match output.values {
            OutputValues::F32(values) => contents.fp32_contents = values,
            OutputValues::Text(values) => {
                contents.bytes_contents = values.into_iter().map(String::into_bytes).collect();
            }
        }
        contents
    });
    InferOutputTensor {
        name: output.name.to_owned(),
        datatype: output.datatype.to_owned(),
        shape: output.shape,
        parameters: HashMap::new(),
        contents,
    }
}

/// The refusal of a prediction, for the HTTP side.
pub(super) fn refusal(error: PredictError) -> WireError {
    errors::from_predict(error)
}
