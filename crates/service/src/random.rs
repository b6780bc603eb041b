//! Randomness of the operating system, for keys, tokens and identifiers. What a run learns from is
//! seeded instead (`params::Rng`).

/// The operating system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("read random bytes from the operating system: {0}")]
pub struct Unavailable(getrandom::Error);

/// `N` random bytes.
pub fn bytes<const N: usize>() -> Result<[u8; N], Unavailable> {
    let mut out = [0; N];
    getrandom::fill(&mut out).map_err(Unavailable)?;
    Ok(out)
}

/// 64 random bits.
pub fn u64() -> Result<u64, Unavailable> {
    bytes().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ() {
        assert_ne!(bytes::<32>().unwrap(), bytes::<32>().unwrap());
        assert_ne!(u64().unwrap(), u64().unwrap());
    }
}
