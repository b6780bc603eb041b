use std::{
    collections::BTreeSet,
    fmt::Display,
    ops::{Bound, RangeBounds, RangeInclusive},
    path::{Component, Path},
    time::Duration,
};

use params::Name;

use crate::error::Fault;

/// A range of floats; either end may be open.
pub(crate) type Floats = (Bound<f64>, Bound<f64>);

/// The longest value that a fault repeats, in characters.
const SHOWN_MAX: usize = 80;

/// Collects faults, so that one reading of a file reports all of them.
///
/// Each check gives the value or, after a fault, some stand-in that is within bounds: a job with a
/// fault is never built, so a stand-in leaves this crate in no case.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// All faults so far, in the order of the checks.
    pub(crate) fn finish(self) -> Vec<Fault> {
        self.0
    }

    /// How many faults there are so far: a part of a file that adds none has no stand-in.
    pub(crate) fn count_found(&self) -> usize {
        self.0.len()
    }

    /// `key = value` breaks a bound.
    pub(crate) fn broken(&mut self, key: &str, value: impl Display, reason: impl Into<String>) {
        let mut value = value.to_string();
        if let Some((at, _)) = value.char_indices().nth(SHOWN_MAX) {
            value.truncate(at);
            value.push_str("...");
        }
        self.0.push(Fault { key: key.to_owned(), value: Some(value), reason: reason.into() });
    }

    /// Something about `key` that no single value shows.
    pub(crate) fn about(&mut self, key: &str, reason: impl Into<String>) {
        self.0.push(Fault { key: key.to_owned(), value: None, reason: reason.into() });
    }

    /// A key that is set but would be ignored: `why` completes "has no meaning ...".
    pub(crate) fn unused(&mut self, key: &str, set: bool, why: &str) {
        if set {
            self.about(key, format!("has no meaning {why}, remove it"));
        }
    }

    /// An integer in `range`, or its default.
    pub(crate) fn integer(
        &mut self,
        key: &str,
        value: Option<i64>,
        default: Option<i64>,
        range: RangeInclusive<i64>,
    ) -> i64 {
        let (low, high) = (*range.start(), *range.end());
        match value.or(default) {
            Some(value) if range.contains(&value) => return value,
            Some(value) => self.broken(key, value, format!("must be from {low} to {high}")),
            None => self.about(key, format!("is missing, must be from {low} to {high}")),
        }
        low
    }

    /// [`Faults::integer`] for a range that fits `u32`.
    pub(crate) fn count(&mut self, key: &str, value: Option<i64>, default: Option<i64>, max: u32) -> u32 {
        let value = self.integer(key, value, default, 1..=i64::from(max));
        u32::try_from(value).unwrap_or(max)
    }

    /// A float in `range`, or its default.
    pub(crate) fn float(
        &mut self,
        key: &str,
        value: Option<f64>,
        default: Option<f64>,
        range: Floats,
    ) -> f64 {
        match value.or(default) {
            // NaN is in no range.
            Some(value) if range.contains(&value) => return value,
            Some(value) => self.broken(key, value, format!("must be {}", in_words(range))),
            None => self.about(key, format!("is missing, must be {}", in_words(range))),
        }
        0.0
    }

    /// A length of time such as `"90s"` or `"1h 30m"`, or its default.
    pub(crate) fn duration(
        &mut self,
        key: &str,
        value: Option<&str>,
        default: Option<Duration>,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let bounds = || {
            let show = humantime::format_duration;
            format!("must be from {} to {}", show(*range.start()), show(*range.end()))
        };
        match value {
            None if let Some(default) = default => return default,
            None => self.about(key, format!("is missing, {}, for instance \"60s\"", bounds())),
            Some(text) => match humantime::parse_duration(text) {
                Ok(value) if range.contains(&value) => return value,
                Ok(_) => self.broken(key, quoted(text), bounds()),
                Err(_) => {
                    self.broken(key, quoted(text), "must be a length of time such as \"60s\" or \"5m\"")
                }
            },
        }
        *range.start()
    }

    /// A name as workers, runs, models and datasets have.
    pub(crate) fn name(&mut self, key: &str, value: Option<&str>) -> Option<Name> {
        let Some(text) = value else {
            self.about(key, "is missing, for instance \"iris\"");
            return None;
        };
        text.parse().map_err(|e: params::ParseNameError| self.about(key, e.to_string())).ok()
    }

    /// One word of a list, or its default.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &str,
        value: Option<&str>,
        default: Option<T>,
        known: &[(&'static str, T)],
    ) -> Option<T> {
        let words = || known.iter().map(|(word, _)| quoted(word)).collect::<Vec<_>>().join(", ");
        match value {
            None if default.is_some() => return default,
            None => self.about(key, format!("is missing, must be one of: {}", words())),
            Some(text) => match known.iter().find(|(word, _)| *word == text) {
                Some((_, choice)) => return Some(*choice),
                None => self.broken(key, quoted(text), format!("must be one of: {}", words())),
            },
        }
        None
    }

    /// A text of 1 to `max` bytes on one line: a column, a label, a path.
    pub(crate) fn text(&mut self, key: &str, text: &str, max: usize) {
        if text.is_empty() {
            self.broken(key, quoted(text), "must not be empty");
        } else if text.len() > max {
            self.broken(
                key,
                quoted(text),
                format!("is {} bytes long, at most {max} are allowed", text.len()),
            );
        } else if text.chars().any(char::is_control) {
            self.broken(key, quoted(text), "must not hold control characters");
        }
    }

    /// A file that goes along with the job file: job files are passed around, and must not reach for
    /// other files of the host that starts them.
    pub(crate) fn path(&mut self, key: &str, path: &str, max: usize) {
        self.text(key, path, max);
        let outside = |part: Component<'_>| !matches!(part, Component::Normal(_) | Component::CurDir);
        if Path::new(path).components().any(outside) {
            self.broken(
                key,
                quoted(path),
                "must lie beside the job file or below it: no '..' and no absolute path",
            );
        }
    }

    /// How many items a list has, and that no two are equal.
    pub(crate) fn list<T: Ord + Display>(&mut self, key: &str, items: &[T], count: RangeInclusive<usize>) {
        if !count.contains(&items.len()) {
            let bounds = format!("{} to {} are allowed", count.start(), count.end());
            self.about(key, format!("has {} entries, {bounds}", items.len()));
        }
        let mut seen = BTreeSet::new();
        for (at, item) in items.iter().enumerate() {
            if !seen.insert(item) {
                self.about(&format!("{key}[{at}]"), format!("{item} occurs twice"));
            }
        }
    }
}

/// A text as TOML writes it.
pub(crate) fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn in_words((low, high): Floats) -> String {
    let low = match low {
        Bound::Included(low) => format!("at least {low}"),
        Bound::Excluded(low) => format!("above {low}"),
        Bound::Unbounded => "finite".to_owned(),
    };
    match high {
        Bound::Included(high) => format!("{low} and at most {high}"),
        Bound::Excluded(high) => format!("{low} and below {high}"),
        Bound::Unbounded => low,
    }
}
