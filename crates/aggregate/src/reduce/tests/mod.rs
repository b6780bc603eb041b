mod breakdown;
mod errors;
mod golden;
mod invariance;
mod naive;

use super::*;

/// The smallest blocks, one thread.
const TINY: Budget = Budget { bytes: 0, threads: 1 };

/// SplitMix64: test data that are the same on every machine.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Close to a standard normal: twelve uniforms less six.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Rows around nothing in particular: columns of very different sizes, some all zero, zeros of both
    /// signs here and there.
    fn rows(&mut self, rows: usize, columns: usize) -> Vec<Vec<f32>> {
        let sizes: Vec<f32> = (0..columns).map(|_| [0.0, 1e-6, 1.0, 300.0][self.below(4)]).collect();
        let mut value = |size: f32| match self.below(8) {
            0 => 0.0,
            1 => -0.0,
            _ => self.normal() as f32 * size,
        };
        (0..rows).map(|_| sizes.iter().map(|size| value(*size)).collect()).collect()
    }

    /// The same, of at least 3 columns, but no two pairs of rows are equally far apart: rows that differ in
    /// tiny values only can score the same, and then their order, or a last bit, decides what is picked.
    fn rows_apart(&mut self, rows: usize, columns: usize) -> Vec<Vec<f32>> {
        let mut rows = self.rows(rows, columns);
        for value in rows.iter_mut().flat_map(|row| &mut row[..3]) {
            *value = 300.0 * self.normal() as f32;
        }
        rows
    }

    fn shuffle<T>(&mut self, values: &mut [T]) {
        for at in (1..values.len()).rev() {
            values.swap(at, self.below(at + 1));
        }
    }
}

/// The aggregate; checks that blocks come one after the other and cover all columns.
fn aggregate(spec: &ReduceSpec, rows: &[Vec<f32>], previous: Option<&[f32]>, budget: Budget) -> Vec<f32> {
    let mut matrix = InMemory::new(rows.to_vec()).unwrap();
    let mut previous = previous.map(|row| InMemory::new(vec![row.to_vec()]).unwrap());
    let previous = previous.as_mut().map(|row| row as &mut dyn Rows);
    let mut out: Vec<f32> = Vec::new();
    reduce(spec, &mut matrix, previous, budget, &mut |start, block| {
        assert_eq!(start, out.len());
        assert!(!block.is_empty());
        out.extend(block);
        Ok(())
    })
    .unwrap();
    assert_eq!(out.len(), rows[0].len());
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Every rule with all of its attackers, for `n` rows.
fn every_rule(n: usize) -> Vec<ReduceSpec> {
    let trimmed = (0..=(n - 1) / 2).map(|f| ReduceSpec::TrimmedMean { f });
    let krum = (0..n).flat_map(|f| {
        let several = [1, 2, n / 2, n].map(|m| ReduceSpec::MultiKrum { f, m });
        [ReduceSpec::Krum { f }, ReduceSpec::Bulyan { f }].into_iter().chain(several)
    });
    let iterated = [1, 3].into_iter().flat_map(|iterations| {
        let clipping = [0.1, 50.0, 1e6].map(|tau| ReduceSpec::CenteredClipping { tau, iterations });
        let median = [1e-6, 10.0].map(|nu| ReduceSpec::GeometricMedian { nu, iterations });
        clipping.into_iter().chain(median)
    });
    let all = [ReduceSpec::Median].into_iter().chain(trimmed).chain(krum).chain(iterated);
    all.filter(|spec| spec.rows_min() <= n && spec.check().is_ok()).collect()
}
