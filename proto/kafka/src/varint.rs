//! The signed integers of variable length in records: zigzag, least significant 7 bits first.

/// Reads up to 32 bits in at most 5 bytes and moves `data` past them; `None` if they are cut off or too long.
pub(crate) fn read_varint(data: &mut &[u8]) -> Option<i32> {
    let raw = u32::try_from(read_unsigned(data, 5)?).ok()?;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Reads up to 64 bits in at most 10 bytes and moves `data` past them; `None` if they are cut off or too long.
pub(crate) fn read_varlong(data: &mut &[u8]) -> Option<i64> {
    let raw = read_unsigned(data, 10)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

fn read_unsigned(data: &mut &[u8], max_length: usize) -> Option<u64> {
    let mut value = 0;
    for position in 0..max_length {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        let bits = u64::from(byte & 0x7f);
        if position == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * position);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Appends up to 32 bits.
pub(crate) fn write_varint(out: &mut Vec<u8>, value: i32) {
    write_varlong(out, value.into());
}

/// Appends up to 64 bits.
pub(crate) fn write_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = (value << 1 ^ value >> 63) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_come_back() {
        for value in [
            0,
            1,
            -1,
            63,
            64,
            -64,
            -65,
            i32::MAX.into(),
            i32::MIN.into(),
            i64::MAX,
            i64::MIN,
        ] {
            let mut out = Vec::new();
            write_varlong(&mut out, value);
            let mut data = &out[..];
            assert_eq!(read_varlong(&mut data), Some(value));
            assert!(data.is_empty());
            let expected = i32::try_from(value).ok();
            assert_eq!(read_varint(&mut &out[..]), expected, "{value}");
        }
    }

    #[test]
    fn known_bytes() {
        let mut out = Vec::new();
        for value in [0, -1, 1, -64, 64] {
            write_varint(&mut out, value);
        }
        assert_eq!(out, [0, 1, 2, 127, 0x80, 1]);
    }

    #[test]
    fn nothing_is_read_beyond_five_or_ten_bytes() {
        assert_eq!(
            read_varint(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0][..]),
            None
        );
        assert_eq!(read_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
        assert_eq!(read_varlong(&mut &[0x80; 11][..]), None);
        assert_eq!(
            read_varlong(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x03][..]),
            None
        );
        assert_eq!(read_varint(&mut &[0x80][..]), None);
    }
}
