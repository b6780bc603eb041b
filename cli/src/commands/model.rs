use proto::{
    convert,
    v1::{ListVersionsRequest, ShowVersionRequest, ShowVersionResponse},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    pull,
    views::{self, Version},
};
use crate::{
    args::Model,
    error::CliError,
    output::{self, Format, Table},
    reference::Reference,
    session::Session,
};

/// One version, as JSON.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    version: Version,
    /// Of `model.safetensors`.
    bytes: u64,
    manifest: Value,
}

/// `conclave model ...`.
pub(super) async fn run(session: &Session, format: Format, command: Model) -> Result<(), CliError> {
    match command {
        Model::Ls { model } => {
            let request = ListVersionsRequest { model: model.map(|m| m.to_string()).unwrap_or_default() };
            let answer = session.registry().list_versions(request).await?.into_inner();
            let versions: Vec<Version> = answer.versions.into_iter().map(Into::into).collect();
            output::list(format, &versions, table)?;
            if versions.is_empty() {
                output::note("no model yet; every finished round of a run makes a version");
            }
            Ok(())
        }
        Model::Show { reference } => {
            let answer = find(session, &reference).await?;
            let shown = Shown {
                version: convert::required("summary", answer.summary)?.into(),
                bytes: answer.weights.map_or(0, |weights| weights.bytes),
                manifest: manifest(&answer.manifest_json)?,
            };
            output::item(format, &shown, describe)?;
            Ok(())
        }
        Model::Pull { reference, to } => pull::run(session, format, &reference, &to).await,
    }
}

/// Asks the registry for one version.
pub(super) async fn find(session: &Session, reference: &Reference) -> Result<ShowVersionResponse, CliError> {
    let request =
        ShowVersionRequest { model: reference.model.to_string(), reference: reference.on_the_wire() };
    Ok(session.registry().show_version(request).await?.into_inner())
}

/// The manifest of a version.
pub(super) fn manifest(text: &str) -> Result<Value, CliError> {
    serde_json::from_str(text).map_err(|e| CliError::Answer(format!("manifest: {e}")))
}

/// The texts of the list `signature.NAME` in a manifest.
pub(super) fn signature(manifest: &Value, name: &str) -> Result<Vec<String>, CliError> {
    let texts = manifest["signature"][name].as_array().map(|items| {
        items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
    });
    match texts {
        Some(Some(texts)) if !texts.is_empty() => Ok(texts),
        _ => Err(CliError::Answer(format!("manifest: signature.{name} is not a list of names"))),
    }
}

fn table(versions: &[Version]) -> Table {
    let headings =
        ["MODEL", "VERSION", "ALIASES", "RUN", "ROUND", "TEST LOSS", "ACCURACY", "CREATED", "DIGEST"];
    let mut table = Table::new(&headings, &[1, 4, 5, 6]);
    for version in versions {
        table.row([
            &version.model,
            &version.version.to_string(),
            &version.aliases.join(", "),
            &version.run,
            &version.round.to_string(),
            &views::metric(&version.metrics, "test_loss"),
            &views::metric(&version.metrics, "test_accuracy"),
            &output::time(version.created_unix_ms),
            &views::short(&version.digest),
        ]);
    }
    table
}

fn describe(shown: &Shown) -> Vec<String> {
    let Shown { version, bytes, manifest } = shown;
    let list = |name| signature(manifest, name).unwrap_or_default().join(", ");
    let metrics = version.metrics.iter().map(|(name, value)| format!("{name} {value:.4}"));
    let architecture = &manifest["architecture"];
    let mut table = Table::new(&["MODEL", &format!("{}:{}", version.model, version.version)], &[]);
    table.row(["aliases", &version.aliases.join(", ")]);
    table.row(["digest", &version.digest]);
    table.row(["size", &output::bytes(*bytes)]);
    table.row(["created", &output::time(version.created_unix_ms)]);
    table.row(["run", &format!("{}, round {}", version.run, version.round)]);
    table.row(["metrics", &metrics.collect::<Vec<_>>().join(", ")]);
    if !architecture.is_null() {
        table.row(["architecture", &architecture.to_string()]);
    }
    table.row(["features", &list("features")]);
    table.row(["classes", &list("classes")]);
    table.lines()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version() -> Version {
        Version {
            model: "iris".into(),
            version: 20,
            digest: "ab".repeat(32),
            aliases: vec!["best".into(), "latest".into()],
            run: "iris-1".into(),
            round: 20,
            metrics: [("test_accuracy".to_owned(), 0.9666)].into(),
            created_unix_ms: 1_767_225_600_000,
        }
    }

    #[test]
    fn versions_for_people() {
        assert_eq!(
            table(&[version()]).lines(),
            [
                "MODEL  VERSION  ALIASES       RUN     ROUND  TEST LOSS  ACCURACY  CREATED               DIGEST",
                "iris        20  best, latest  iris-1     20               0.9666  2026-01-01T00:00:00Z  abababababab"
            ]
        );
    }

    #[test]
    fn one_version_for_people_and_programs() {
        let manifest = json!({ "signature": { "features": ["a", "b"], "classes": ["x", "y"] } });
        let shown = Shown { version: version(), bytes: 4096, manifest };
        let lines = describe(&shown);
        assert_eq!(lines[0], "MODEL     iris:20");
        assert_eq!(lines[1], "aliases   best, latest");
        assert!(lines.contains(&"features  a, b".to_owned()), "{lines:?}");
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!((&json["version"], &json["bytes"]), (&json!(20), &json!(4096)));
        assert_eq!(json["aliases"], json!(["best", "latest"]));
        assert_eq!(json["manifest"]["signature"]["classes"], json!(["x", "y"]));
    }

    #[test]
    fn a_manifest_without_a_signature_is_told() {
        for text in ["{}", r#"{"signature":{"features":[]}}"#, r#"{"signature":{"features":[1]}}"#, "3"] {
            let error = signature(&manifest(text).unwrap(), "features").unwrap_err().to_string();
            assert!(error.ends_with("signature.features is not a list of names"), "{error}");
        }
        assert!(manifest("{").is_err());
    }
}
