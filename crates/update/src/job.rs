//! The words of a job file in the types of this crate.

use params::Layout;

use crate::{Encoding, Form, FormError, Policy, Rule};

impl From<::job::Encoding> for Encoding {
    fn from(encoding: ::job::Encoding) -> Self {
        match encoding {
            ::job::Encoding::F32 => Self::F32,
            ::job::Encoding::Bf16 => Self::Bf16,
            ::job::Encoding::Fp16 => Self::Fp16,
            ::job::Encoding::Int8 { block } => Self::Int8 { block },
            ::job::Encoding::Int4 { block } => Self::Int4 { block },
            ::job::Encoding::TopK { fraction } => Self::TopK { fraction },
            ::job::Encoding::Sign => Self::Sign,
        }
    }
}

impl From<::job::Policy> for Policy {
    fn from(policy: ::job::Policy) -> Self {
        match policy {
            ::job::Policy::Average => Self::Average,
            ::job::Policy::KeepLocal => Self::KeepLocal,
            ::job::Policy::Max => Self::Max,
            ::job::Policy::Skip => Self::Skip,
        }
    }
}

impl From<&::job::TensorRule> for Rule {
    fn from(rule: &::job::TensorRule) -> Self {
        Self {
            pattern: rule.pattern.clone(),
            policy: rule.policy.into(),
            coordinate_max: rule.coordinate_max,
        }
    }
}

impl Form {
    /// The form of updates of a model in runs with this table: both sides make it of the same words.
    ///
    /// # Errors
    /// See [`FormError`].
    pub fn of(aggregate: &::job::Aggregate, layout: &Layout) -> Result<Self, FormError> {
        let rules: Vec<Rule> = aggregate.tensors.iter().map(Rule::from).collect();
        Self::new(layout, &rules, aggregate.coordinate_max)
    }
}

#[cfg(test)]
mod tests {
    use ::job::Job;
    use params::TensorSpec;

    use super::*;
    use crate::Segment;

    fn job(aggregate: &str) -> Job {
        let text = format!(
            r#"
            name = "load"
            task = "synthetic"
            [model]
            parameters = 3
            [synthetic]
            update = "one-hot"
            [rounds]
            count = 1
            cohort = {{ min = 1, max = 1 }}
            deadline = "60s"
            [aggregate]
            {aggregate}
            "#
        );
        Job::parse(&text).unwrap()
    }

    #[test]
    fn every_encoding_has_the_same_word_on_both_sides() {
        for (word, expected) in [
            ("\"f32\"", Encoding::F32),
            ("\"bf16\"", Encoding::Bf16),
            ("\"fp16\"", Encoding::Fp16),
            ("{ kind = \"int8\", block = 32 }", Encoding::Int8 { block: 32 }),
            ("{ kind = \"int4\", block = 64 }", Encoding::Int4 { block: 64 }),
            ("{ kind = \"top-k\", fraction = 0.25 }", Encoding::TopK { fraction: 0.25 }),
            ("\"sign\"", Encoding::Sign),
        ] {
            let found = job(&format!("encoding = {word}")).aggregate.encoding;
            assert_eq!(Encoding::from(found), expected);
            assert_eq!(found.word(), expected.name());
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_bounds_are_taken_over() {
        let aggregate = job(r#"
            coordinate_max = 8.0
            tensors = [
                { match = "norm.*", policy = "keep-local" },
                { match = "*.max", policy = "max" },
                { match = "head", policy = "average", coordinate_max = 2.0 },
                { match = "frozen", policy = "skip" },
            ]
        "#)
        .aggregate;
        let names = ["body", "frozen", "head", "norm.max", "x.max"];
        let layout = Layout::new(names.map(|name| TensorSpec::new(name, [2])).to_vec()).unwrap();
        let form = Form::of(&aggregate, &layout).unwrap();
        let segment = |flat, at, coordinate_max| Segment { flat, at, coordinate_max };
        assert_eq!(form.segments(), [segment(0..2, 0, 8.0), segment(4..6, 2, 2.0)]);
        assert_eq!(form.max_segments(), [segment(8..10, 0, f32::MAX)]);
        assert_eq!(form.kept_local(), std::slice::from_ref(&(6..8)));
        let layout = Layout::new(vec![TensorSpec::new("w", [2])]).unwrap();
        assert!(matches!(Form::of(&aggregate, &layout), Err(FormError::NoMatch { .. })));
    }
}
