//! The length prefix of a frame.

/// A length prefix that is refused; the connection is closed, since what follows cannot be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {len} bytes is outside 0..={max}")]
pub struct FrameError {
    /// The length that was claimed.
    pub len: i32,
    /// The largest that is taken here (`jute.maxbuffer`), in bytes.
    pub max: usize,
}

/// The length of a frame's body from its prefix, checked against `max` bytes before anything is allocated for it.
pub fn frame_len(prefix: [u8; 4], max: usize) -> Result<usize, FrameError> {
    let len = i32::from_be_bytes(prefix);
    usize::try_from(len)
        .ok()
        .filter(|&len| len <= max)
        .ok_or(FrameError { len, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lengths_from_zero_to_max_pass() {
        assert_eq!(frame_len([0, 0, 0, 9], 9), Ok(9));
        assert_eq!(
            frame_len([0, 0, 0, 10], 9),
            Err(FrameError { len: 10, max: 9 })
        );
        assert_eq!(frame_len([0xff; 4], 9), Err(FrameError { len: -1, max: 9 }));
    }
}
