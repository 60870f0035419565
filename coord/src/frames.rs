//! How the log and the snapshots guard their bytes: `len:u32 crc32:u32 body`, little-endian; the checksum covers the
//! length and the body.

use bytes::Bytes;

/// Bytes before the body.
pub(crate) const HEADER_LEN: usize = 8;

/// Appends one frame, whose body `body` writes.
pub(crate) fn write(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; HEADER_LEN]);
    body(out);
    let len = (out.len() - start - HEADER_LEN) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    let crc = checksum(len, &out[start + HEADER_LEN..]);
    out[start + 4..start + HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
}

/// The body of the frame at the start of `bytes`; `None` if there is no whole frame or its checksum does not hold.
pub(crate) fn read(bytes: &Bytes) -> Option<Bytes> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let crc = u32::from_le_bytes(bytes.get(4..HEADER_LEN)?.try_into().ok()?);
    let end = HEADER_LEN.checked_add(len as usize)?;
    let body = bytes.get(HEADER_LEN..end)?;
    (checksum(len, body) == crc).then(|| bytes.slice(HEADER_LEN..end))
}

fn checksum(len: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_was_cut_or_changed_is_none() {
        let mut out = Vec::new();
        write(&mut out, |out| out.extend(b"body"));
        assert_eq!(
            read(&Bytes::from(out.clone())).as_deref(),
            Some(&b"body"[..])
        );
        for len in 0..out.len() {
            assert_eq!(read(&Bytes::copy_from_slice(&out[..len])), None);
        }
        for at in 0..out.len() {
            let mut changed = out.clone();
            changed[at] ^= 0x40;
            assert_eq!(read(&Bytes::from(changed)), None, "byte {at}");
        }
    }
}
