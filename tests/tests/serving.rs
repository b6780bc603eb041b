//! From a finished run to predictions: registry, pull, gRPC, HTTP, and what bad requests get.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use std::fs;

use serde_json::{Value, json};
use tests::{Federation, IRIS, Job, Site, http};

/// One row of each species, and its label.
const ROWS: [([f64; 4], &str); 3] = [
    ([5.1, 3.5, 1.4, 0.2], "setosa"),
    ([5.9, 2.8, 4.2, 1.3], "versicolor"),
    ([6.9, 3.1, 5.4, 2.3], "virginica"),
];

fn trained(arch: &'static str) -> (Federation, Vec<Site>) {
    let federation = Federation::start();
    let sites = ["ada", "ben"].iter().map(|name| federation.worker(name, &["--device", "cpu"])).collect();
    let local = "optimizer = \"adam\"\nlr = 0.02\nepochs = 10\nbatch = 16";
    let job = Job { arch, local, rounds: 5, max: 2, ..Job::default() };
    federation.complete(&job.toml(), &[("iris.csv", IRIS.as_bytes())]);
    (federation, sites)
}

fn infer(shape: Value, data: Value) -> String {
    json!({"id": "7", "inputs": [{"name": "input", "shape": shape, "datatype": "FP32", "data": data}]})
        .to_string()
}

fn nested() -> Value {
    json!(ROWS.map(|(row, _)| row))
}

#[test]
fn a_version_answers_the_same_by_every_way() {
    let (federation, _sites) = trained("mlp");
    // A version is pulled whole, and its manifest says what it is.
    let to = federation.path("pulled");
    federation.cli(&["model", "pull", "iris", "--to", to.to_str().unwrap()]).ok();
    let manifest: Value = serde_json::from_slice(&fs::read(to.join("manifest.json")).unwrap()).unwrap();
    let weights = fs::read(to.join("model.safetensors")).unwrap();
    assert_eq!(manifest["version"], 5);
    assert_eq!(manifest["lineage"]["run"], "iris-1");
    assert_eq!(manifest["signature"]["classes"], json!(["setosa", "versicolor", "virginica"]));
    let digest = params::Digest::of(&weights).to_string();
    assert_eq!(manifest["files"]["model.safetensors"]["digest"], digest);
    let tensors = params::Params::from_safetensors(&weights).unwrap();
    let keys: Vec<&str> = tensors.layout().tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(keys, ["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"]);

    // HTTP.
    let (status, answer) =
        http(&federation.http(), "POST", "/v2/models/iris/infer", &infer(json!([3, 4]), nested()));
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["model_version"], &answer["id"]), (&json!("5"), &json!("7")));
    assert_eq!(answer["parameters"]["digest"], digest);
    assert_eq!(answer["outputs"][1]["data"], json!(ROWS.map(|(_, label)| label)));
    let probabilities: Vec<f64> =
        answer["outputs"][0]["data"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
    assert_eq!(probabilities.len(), 9);
    for row in probabilities.chunks(3) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{row:?}");
    }

    // gRPC, through the command line, from CSV and from JSON rows.
    let csv = ROWS.map(|(row, _)| row.map(|v| v.to_string()).join(",")).join("\n");
    for rows in [csv, nested().to_string()] {
        let answer =
            federation.cli_with(&["predict", "iris", "--input", "-", "--output", "json"], &rows).json();
        assert_eq!(
            (&answer["version"].to_string().replace('"', "")[..], &answer["digest"]),
            ("5", &json!(digest))
        );
        for (index, prediction) in answer["predictions"].as_array().unwrap().iter().enumerate() {
            assert_eq!(prediction["label"], ROWS[index].1);
            for (class, label) in ["setosa", "versicolor", "virginica"].iter().enumerate() {
                let by_grpc = prediction["probabilities"][label].as_f64().unwrap();
                assert!((by_grpc - probabilities[index * 3 + class]).abs() < 1e-6);
            }
        }
    }

    // Older versions stay, by number.
    let old = federation.cli_with(&["predict", "iris:1", "--output", "json"], &nested().to_string()).json();
    assert_eq!(old["version"].to_string().replace('"', ""), "1");
    assert_ne!(old["digest"], json!(digest));
    let first = federation.cli(&["model", "show", "iris:1", "--output", "json"]).json();
    assert!(first.to_string().contains(old["digest"].as_str().unwrap()));
}

#[test]
fn bad_prediction_requests_get_clear_errors() {
    let (federation, _sites) = trained("softmax");
    let address = federation.http();
    let post = |path: &str, body: &str| http(&address, "POST", path, body);
    let model = "/v2/models/iris/infer";
    let cases: [(&str, String, u16, &str); 10] = [
        (model, infer(json!([1, 3]), json!([1, 2, 3])), 400, "expected [rows, 4]"),
        (model, infer(json!([2, 4]), json!([1, 2, 3, 4])), 400, "holds 4 values"),
        (model, infer(json!([1, 4]), json!([1, 2, "x", 4])), 400, "data holds \"x\""),
        (model, infer(json!([1, 4]), json!([1, 2, 1e39, 4])), 400, "petal_length"),
        (model, infer(json!([0, 4]), json!([])), 400, "[0, 4]"),
        (model, infer(json!([4]), json!([1, 2, 3, 4])), 400, "shape [4]"),
        (model, "not json".into(), 400, "expected"),
        (model, json!({"inputs": []}).to_string(), 400, "one input"),
        ("/v2/models/wine/infer", infer(json!([1, 4]), json!([1, 2, 3, 4])), 404, "known are: iris"),
        (
            "/v2/models/iris/versions/99/infer",
            infer(json!([1, 4]), json!([1, 2, 3, 4])),
            404,
            "versions are 1 to 5",
        ),
    ];
    for (path, body, status, part) in cases {
        let (found, answer) = post(path, &body);
        let message = answer["error"].as_str().unwrap_or_default();
        assert!(found == status && message.contains(part), "{path} {body}: {found} {answer}");
    }
    let wanted = json!({"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}],
                        "outputs": [{"name": "logits"}]});
    assert!(post(model, &wanted.to_string()).1["error"].as_str().unwrap().contains("no output 'logits'"));

    let predict = |rows: &str, model: &str| federation.cli_with(&["predict", model, "--input", "-"], rows);
    for (rows, part) in
        [("5.1,3.5,1.4\n", "4"), ("5.1,NaN,1.4,0.2\n", "NaN"), ("", "no row"), ("5.1,x,1.4,0.2\n", "x")]
    {
        let error = predict(rows, "iris");
        assert!(error.fails(1).contains(part), "{rows}: {error:?}");
    }
    predict("5.1,3.5,1.4,0.2\n", "wine").fails(5);
    predict("5.1,3.5,1.4,0.2\n", "iris:99").fails(5);
    federation.cli(&["model", "show", "wine"]).fails(5);
    federation.cli(&["run", "show", "wine-1"]).fails(5);
    // None of it harmed the server.
    assert_eq!(http(&address, "GET", "/readyz", "").0, 200);
    assert_eq!(post(model, &infer(json!([3, 4]), nested())).0, 200);
}
