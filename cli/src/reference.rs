use std::{fmt, str::FromStr};

use params::Name;

/// A version of a model as users write it: `iris`, `iris@champion`, `iris:3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The model.
    pub(crate) model: Name,
    /// Which of its versions.
    pub(crate) version: Version,
}

/// Which version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Nothing was said.
    Latest,
    /// `@ALIAS`.
    Alias(Name),
    /// `:VERSION`.
    Number(u64),
}

/// Why a text is not a [`Reference`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseReferenceError {
    #[error("'{0}' has both '@' and ':', write MODEL, MODEL@ALIAS or MODEL:VERSION")]
    Both(String),
    #[error("model: {0}")]
    Model(params::ParseNameError),
    #[error("alias: {0}")]
    Alias(params::ParseNameError),
    #[error("version '{0}' is not a number from 1 on; write MODEL@ALIAS for an alias")]
    Number(String),
}

impl Reference {
    /// How the wire names the version: empty, an alias, or a number.
    pub(crate) fn on_the_wire(&self) -> String {
        match &self.version {
            Version::Latest => String::new(),
            Version::Alias(alias) => alias.to_string(),
            Version::Number(number) => number.to_string(),
        }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('@') && text.contains(':') {
            return Err(ParseReferenceError::Both(text.to_owned()));
        }
        let model = |name: &str| name.parse().map_err(ParseReferenceError::Model);
        if let Some((name, alias)) = text.split_once('@') {
            let alias = alias.parse().map_err(ParseReferenceError::Alias)?;
            return Ok(Self { model: model(name)?, version: Version::Alias(alias) });
        }
        let Some((name, number)) = text.split_once(':') else {
            return Ok(Self { model: model(text)?, version: Version::Latest });
        };
        // Only digits: a sign or blanks would parse in one place and fail in another.
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        match number.parse() {
            Ok(version) if digits && version > 0 => {
                Ok(Self { model: model(name)?, version: Version::Number(version) })
            }
            _ => Err(ParseReferenceError::Number(number.to_owned())),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Latest => write!(f, "{}", self.model),
            Version::Alias(alias) => write!(f, "{}@{alias}", self.model),
            Version::Number(number) => write!(f, "{}:{number}", self.model),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms() {
        for (text, wire) in
            [("iris", ""), ("iris@latest", "latest"), ("iris@best", "best"), ("iris:12", "12")]
        {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.model.as_str(), "iris");
            assert_eq!((reference.to_string().as_str(), reference.on_the_wire().as_str()), (text, wire));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        use ParseReferenceError::*;
        let parse = |text: &str| text.parse::<Reference>().unwrap_err();
        assert_eq!(parse("iris@a:1"), Both("iris@a:1".into()));
        for text in ["", "@latest", ":1", "Iris"] {
            assert!(matches!(parse(text), Model(_)), "{text}");
        }
        assert!(matches!(parse("iris@"), Alias(_)));
        for number in ["", "0", "-1", "+1", "1.5", "latest", "99999999999999999999"] {
            assert_eq!(parse(&format!("iris:{number}")), Number(number.into()));
        }
    }
}
