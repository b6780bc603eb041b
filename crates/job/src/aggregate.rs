/// The table `[aggregate]`, which may be left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// How updates are combined, by default the mean.
    pub reduction: Reduction,
    /// How much each update counts, by default as much as it has examples. Always [`Weight::Uniform`] where
    /// the reduction is not [weighted](Reduction::is_weighted).
    pub weight: Weight,
    /// How the numbers of an update travel, by default as they are.
    pub encoding: Encoding,
    /// How the combined update changes the model, by default `{ kind = "sgd", lr = 1.0 }`.
    pub server: Server,
    /// The largest magnitude of one coordinate of an update, above 0, at most 1000000, by default
    /// 256. A smaller bound gives the integer mean a finer resolution.
    pub coordinate_max: f32,
    /// An update whose L2 norm over all tensors is larger is refused: finite, above 0; `None`: no bound but
    /// that on coordinates.
    pub norm_max: Option<f64>,
    /// What differs for some tensors: at most 256 rules, no two with the same pattern. See
    /// [`Aggregate::rule`].
    pub tensors: Vec<TensorRule>,
}

/// How updates are combined: `aggregate.reduction`, a word or a table with `kind` and parameters.
///
/// `f` is how many updates of a round may be arbitrary, 1 to 10000. What the rules need of a cohort is
/// [`Reduction::updates_min`], which `rounds.cohort.min` is checked against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reduction {
    /// `"mean"`: weighted by [`Weight`] (McMahan et al. 2017, arXiv:1602.05629).
    Mean,
    /// `"clipped-mean"`: the mean of updates that are shortened to an L2 norm (Sun et al. 2019,
    /// arXiv:1911.07963).
    ClippedMean {
        /// The longest that an update may be before it is shortened, finite, above 0.
        norm: f64,
    },
    /// `"median"`: of each coordinate (Yin et al. 2018, arXiv:1803.01498).
    Median,
    /// `"trimmed-mean"`: of each coordinate, without the `f` lowest and the `f` highest (ibid.).
    TrimmedMean {
        /// How many are left out at either end.
        f: u32,
    },
    /// `"krum"`: the update that is nearest to its neighbours (Blanchard et al. 2017, arXiv:1703.02757).
    Krum {
        /// How many updates may be arbitrary.
        f: u32,
    },
    /// `"multi-krum"`: the mean of the `m` updates that Krum scores best (ibid.).
    MultiKrum {
        /// How many updates may be arbitrary.
        f: u32,
        /// How many updates are averaged, 1 to `rounds.cohort.min - f - 2`: fewer than the smallest cohort
        /// has honest ones, as El Mhamdi et al. 2019 (arXiv:1905.04374) need it.
        m: u32,
    },
    /// `"bulyan"`: Krum picks, then a trimmed mean of each coordinate (El Mhamdi et al. 2018,
    /// arXiv:1802.07927).
    Bulyan {
        /// How many updates may be arbitrary.
        f: u32,
    },
    /// `"geometric-median"`: smoothed Weiszfeld iterations from the mean (RFA: Pillutla et al. 2019,
    /// arXiv:1912.13445).
    GeometricMedian {
        /// The smoothing: distances below it count as it, 1e-12 to 1000000, by default 1e-6.
        nu: f64,
        /// 1 to 100, by default 3.
        iterations: u32,
    },
    /// `"centered-clipping"`: the mean of what differs from the last aggregate, each difference shortened
    /// (Karimireddy et al. 2021, arXiv:2012.10333).
    CenteredClipping {
        /// The longest that a difference may be before it is shortened, finite, above 0.
        tau: f64,
        /// 1 to 100, by default 1.
        iterations: u32,
    },
}

/// How much an update counts in a weighted mean: `aggregate.weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// `"examples"`: as much as it was trained on examples.
    Examples,
    /// `"uniform"`: each the same.
    Uniform,
    /// `"work"`: as much as it took optimizer steps, [`Local::steps`](crate::Local::steps).
    Work,
}

/// How the numbers of an update travel: `aggregate.encoding`, a word or a table with `kind` and parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Encoding {
    /// `"f32"`: as they are, 4 bytes each.
    F32,
    /// `"bf16"`: rounded to the upper half of an `f32`, 2 bytes each.
    Bf16,
    /// `"fp16"`: rounded to IEEE 754 half precision, 2 bytes each.
    Fp16,
    /// `"int8"`: in 255 steps of a scale per block, 1 byte each.
    Int8 {
        /// Numbers with one scale, 16 to 65536 and even, by default 256.
        block: u32,
    },
    /// `"int4"`: in 15 steps of a scale per block, half a byte each.
    Int4 {
        /// Numbers with one scale, 16 to 65536 and even, by default 128.
        block: u32,
    },
    /// `"top-k"`: only the largest magnitudes (Aji and Heafield 2017, arXiv:1704.05021).
    TopK {
        /// The share of the numbers that is sent, above 0, at most 1, by default 0.01.
        fraction: f64,
    },
    /// `"sign"`: only signs, with one scale (Karimireddy et al. 2019, arXiv:1901.09847), one bit each.
    Sign,
}

/// The optimizer of the coordinator: `aggregate.server`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Server {
    /// `"sgd"`: adds the mean times `lr`; with rate 1 that is FedAvg.
    Sgd {
        /// The step size, above 0, at most 1000, by default 1.
        lr: f64,
    },
    /// `"momentum"`: FedAvgM (Hsu et al. 2019, arXiv:1909.06335).
    Momentum {
        /// The step size, above 0, at most 1000, by default 1.
        lr: f64,
        /// 0 to below 1, by default 0.9.
        momentum: f64,
    },
    /// `"nesterov"`: the outer step of DiLoCo (Douillard et al. 2023, arXiv:2311.08105).
    Nesterov {
        /// The step size, above 0, at most 1000, by default 0.7.
        lr: f64,
        /// 0 to below 1, by default 0.9.
        momentum: f64,
    },
    /// `"adagrad"`: FedAdagrad (Reddi et al. 2021, arXiv:2003.00295).
    Adagrad {
        /// The step size, above 0, at most 1000.
        lr: f64,
        /// Keeps the division finite, above 0, at most 1, by default 1e-3.
        eps: f64,
    },
    /// `"adam"`: FedAdam (Reddi et al. 2021), or Adam itself in gradient mode.
    Adam {
        /// The step size, above 0, at most 1000.
        lr: f64,
        /// Decay of the first moment, 0 to below 1, by default 0.9.
        beta1: f64,
        /// Decay of the second moment, 0 to below 1, by default 0.999.
        beta2: f64,
        /// Keeps the division finite, above 0, at most 1, by default 1e-8.
        eps: f64,
        /// Whether the moments are corrected for their start at zero, by default true.
        bias_correction: bool,
    },
    /// `"yogi"`: FedYogi (Reddi et al. 2021).
    Yogi {
        /// The step size, above 0, at most 1000.
        lr: f64,
        /// Decay of the first moment, 0 to below 1, by default 0.9.
        beta1: f64,
        /// Decay of the second moment, 0 to below 1, by default 0.99.
        beta2: f64,
        /// Keeps the division finite, above 0, at most 1, by default 1e-3.
        eps: f64,
    },
}

/// What differs for the tensors of some names: one table of `[[aggregate.tensors]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRule {
    /// `match`: the names, where `*` stands for any run of characters, 1 to 256 bytes.
    pub pattern: String,
    /// What becomes of these tensors.
    pub policy: Policy,
    /// Instead of [`Aggregate::coordinate_max`], with the same bounds; only with [`Policy::Average`].
    pub coordinate_max: Option<f32>,
}

/// What becomes of a tensor: `policy` of `[[aggregate.tensors]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `"average"`: combined by the reduction, as tensors without a rule.
    Average,
    /// `"keep-local"`: every worker keeps its own, which it does not send (FedBN: Li et al. 2021,
    /// arXiv:2102.07623).
    KeepLocal,
    /// `"max"`: the largest of each coordinate.
    Max,
    /// `"skip"`: not sent; it stays as it is in the base version.
    Skip,
}

impl Aggregate {
    /// The rule of the tensor of this name: the first that matches; `None`: it is averaged within
    /// [`Aggregate::coordinate_max`].
    pub fn rule(&self, tensor: &str) -> Option<&TensorRule> {
        self.tensors.iter().find(|rule| rule.matches(tensor))
    }
}

impl Reduction {
    /// Its word in job files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::ClippedMean { .. } => "clipped-mean",
            Self::Median => "median",
            Self::TrimmedMean { .. } => "trimmed-mean",
            Self::Krum { .. } => "krum",
            Self::MultiKrum { .. } => "multi-krum",
            Self::Bulyan { .. } => "bulyan",
            Self::GeometricMedian { .. } => "geometric-median",
            Self::CenteredClipping { .. } => "centered-clipping",
        }
    }

    /// The fewest updates that it can combine: `2f + 1` for the trimmed mean, `2f + 3` for Krum and
    /// Multi-Krum, `4f + 3` for Bulyan, 1 for the others.
    pub fn updates_min(self) -> u32 {
        let least = |times: u32, more: u32| self.arbitrary().saturating_mul(times).saturating_add(more);
        match self {
            Self::TrimmedMean { .. } => least(2, 1),
            Self::Krum { .. } | Self::MultiKrum { .. } => least(2, 3),
            Self::Bulyan { .. } => least(4, 3),
            Self::Mean
            | Self::ClippedMean { .. }
            | Self::Median
            | Self::GeometricMedian { .. }
            | Self::CenteredClipping { .. } => 1,
        }
    }

    /// Its `f`; 0 where it has none.
    pub(crate) fn arbitrary(self) -> u32 {
        match self {
            Self::TrimmedMean { f } | Self::Krum { f } | Self::MultiKrum { f, .. } | Self::Bulyan { f } => f,
            _ => 0,
        }
    }

    /// Whether updates count by [`Aggregate::weight`]. They do in means; a rule that withstands arbitrary
    /// updates cannot let them choose how much they count.
    pub fn is_weighted(self) -> bool {
        matches!(self, Self::Mean | Self::ClippedMean { .. })
    }
}

impl Weight {
    /// Its word in job files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Examples => "examples",
            Self::Uniform => "uniform",
            Self::Work => "work",
        }
    }
}

impl Encoding {
    /// Its word in job files.
    pub fn word(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
            Self::Int8 { .. } => "int8",
            Self::Int4 { .. } => "int4",
            Self::TopK { .. } => "top-k",
            Self::Sign => "sign",
        }
    }
}

impl Server {
    /// Its word in job files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::Momentum { .. } => "momentum",
            Self::Nesterov { .. } => "nesterov",
            Self::Adagrad { .. } => "adagrad",
            Self::Adam { .. } => "adam",
            Self::Yogi { .. } => "yogi",
        }
    }
}

impl Policy {
    /// Its word in job files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Average => "average",
            Self::KeepLocal => "keep-local",
            Self::Max => "max",
            Self::Skip => "skip",
        }
    }
}

impl TensorRule {
    /// Whether the pattern matches this name as a whole.
    pub fn matches(&self, tensor: &str) -> bool {
        crate::matches(&self.pattern, tensor)
    }
}
