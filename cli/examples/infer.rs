//! A client of the Open Inference Protocol v2 over gRPC and mutual TLS, as small as it gets: start
//! from it for your own.
//!
//! ```sh
//! echo 5.1,3.5,1.4,0.2 | cargo run -p cli --example infer -- HOME MODEL
//! ```
//!
//! HOME is the folder of a member who joined as reader or operator. Rows of numbers come on standard
//! input, one per line; the answer is JSON on standard output.

use std::{error::Error, io::Read};

use identity::ClientHome;
use proto::inference::{
    ModelInferRequest, ModelMetadataRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    model_infer_request::InferInputTensor,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, home, model] = args.as_slice() else { return Err("usage: infer HOME MODEL <rows.csv".into()) };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let rows: Vec<Vec<f32>> = text
        .lines()
        .map(|line| line.split(',').map(|cell| cell.trim().parse()).collect())
        .collect::<Result<_, _>>()?;

    // The home holds the key, the certificate, the authority to trust, and the address.
    let channel = identity::connect(&ClientHome::open(home.as_ref())?, None).await?;
    let mut client = GrpcInferenceServiceClient::new(channel);

    let asked = ModelMetadataRequest { name: model.clone(), version: String::new() };
    let metadata = client.model_metadata(asked).await?.into_inner();
    let input = metadata.inputs.first().ok_or("a model without inputs")?;

    let tensor = InferInputTensor {
        name: input.name.clone(),
        datatype: input.datatype.clone(),
        shape: vec![i64::try_from(rows.len())?, i64::try_from(rows.first().map_or(0, Vec::len))?],
        ..InferInputTensor::default()
    };
    let request = ModelInferRequest {
        model_name: model.clone(),
        inputs: vec![tensor],
        raw_input_contents: vec![rows.concat().iter().flat_map(|v| v.to_le_bytes()).collect()],
        ..ModelInferRequest::default()
    };
    let answer = client.model_infer(request).await?.into_inner();
    // A raw request is answered raw: little-endian floats, in the order of `outputs`.
    let at =
        answer.outputs.iter().position(|o| o.name == "probabilities").ok_or("no output 'probabilities'")?;
    let bytes = answer.raw_output_contents.get(at).ok_or("no bytes for output 'probabilities'")?;
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let columns = answer.outputs[at].shape.last().map_or(1, |&n| usize::try_from(n).unwrap_or(1)).max(1);
    let probabilities: Vec<&[f32]> = values.chunks(columns).collect();
    let printed = serde_json::json!({ "version": answer.model_version, "probabilities": probabilities });
    #[allow(clippy::print_stdout)]
    {
        println!("{printed}");
    }
    Ok(())
}
