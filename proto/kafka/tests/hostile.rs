//! Bytes that mean harm: whatever a frame says, reading it takes memory in proportion to its size and never panics.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use kafka_wire::alter_replica_log_dirs::*;
use kafka_wire::api_versions::*;
use kafka_wire::compression::{Compression, CompressionError};
use kafka_wire::create_partitions::*;
use kafka_wire::create_topics::*;
use kafka_wire::delete_records::*;
use kafka_wire::delete_topics::*;
use kafka_wire::describe_cluster::*;
use kafka_wire::describe_configs::*;
use kafka_wire::describe_log_dirs::*;
use kafka_wire::fetch::*;
use kafka_wire::find_coordinator::*;
use kafka_wire::incremental_alter_configs::*;
use kafka_wire::init_producer_id::*;
use kafka_wire::list_offsets::*;
use kafka_wire::metadata::*;
use kafka_wire::offset_for_leader_epoch::*;
use kafka_wire::produce::*;
use kafka_wire::{DecodeError, Message, Reader, Records, RequestHeader, record_batch};
use proptest::prelude::*;

/// Counts what the current thread holds, and the most that it held.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; only numbers are kept besides.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size());
        PEAK.set(PEAK.get().max(HELD.get()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().saturating_sub(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a decoded message may take: 16 bytes for each of its frame, and 16 KiB for any frame.
fn bound(frame_length: usize) -> usize {
    16 * frame_length + 16 * 1024
}

fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before)
}

fn decode<M: Message>(frame: &[u8], version: i16) -> Result<M, DecodeError> {
    let bytes = Bytes::copy_from_slice(frame);
    let (result, peak) = peak_of(|| M::decode(&mut Reader::new(bytes), version));
    let length = frame.len();
    assert!(
        peak <= bound(length),
        "{} v{version}: {peak} bytes for a frame of {length}",
        M::NAME
    );
    result
}

fn decode_all_versions<M: Message>(frame: &[u8]) {
    for version in M::VERSIONS {
        let _ = decode::<M>(frame, version);
    }
}

macro_rules! for_all_messages {
    ($frame:expr; $($message:ident)+) => {
        $(decode_all_versions::<$message>($frame);)+
    };
}

fn decode_everything(frame: &[u8]) {
    for_all_messages! { frame;
        AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse
        ApiVersionsRequest ApiVersionsResponse CreatePartitionsRequest CreatePartitionsResponse
        CreateTopicsRequest CreateTopicsResponse DeleteRecordsRequest DeleteRecordsResponse
        DeleteTopicsRequest DeleteTopicsResponse
        DescribeClusterRequest DescribeClusterResponse DescribeConfigsRequest DescribeConfigsResponse
        DescribeLogDirsRequest DescribeLogDirsResponse
        FetchRequest FetchResponse FindCoordinatorRequest FindCoordinatorResponse
        IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse InitProducerIdRequest InitProducerIdResponse
        ListOffsetsRequest ListOffsetsResponse MetadataRequest MetadataResponse
        OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse ProduceRequest ProduceResponse
    }
    let _ = RequestHeader::decode(&mut Reader::new(Bytes::copy_from_slice(frame)));
    for batch in record_batch::batches(frame) {
        let Ok(batch) = batch else { break };
        let _ = batch.records(1 << 16).map(|records| records.iter().count());
    }
}

/// The crate that was to be our front door took 154 GB for this one.
#[test]
fn four_bytes_of_metadata_that_state_two_billion_topics() {
    let result = decode::<MetadataRequest>(&[0x7f, 0xff, 0xff, 0xff], 1);
    assert_eq!(
        result,
        Err(DecodeError::ArrayTooLong {
            count: 0x7fff_ffff,
            left: 0
        })
    );
    let result = decode::<MetadataRequest>(&[0xff, 0xff, 0xff, 0xff, 0x0f], 12);
    assert_eq!(
        result,
        Err(DecodeError::ArrayTooLong {
            count: 0xffff_fffe,
            left: 0
        })
    );
}

#[test]
fn lengths_below_minus_one_are_errors() {
    assert_eq!(
        decode::<MetadataRequest>(&[0xff, 0xff, 0xff, 0xfe], 1),
        Err(DecodeError::InvalidLength(-2))
    );
    assert_eq!(
        decode::<MetadataRequest>(&[0xff, 0xff, 0xff, 0xff], 0),
        Err(DecodeError::UnexpectedNull)
    );
}

/// One byte on the wire each, 32 in memory: a frame of 100 MiB would unfold to more than 3 GB.
#[test]
fn a_megabyte_of_empty_strings_is_refused() {
    let count = 1 << 20;
    let mut frame = vec![0x81, 0x80, 0x40];
    frame.resize(frame.len() + count, 1);
    frame.extend_from_slice(&[0, 0, 0, 0, 0]);
    assert_eq!(
        decode::<DeleteTopicsRequest>(&frame, 4),
        Err(DecodeError::AllowanceExceeded)
    );
}

/// The bound must not get in the way of what clients really send.
#[test]
fn ten_thousand_topics_with_short_names_are_read() {
    let mut frame = vec![0, 0, 0x27, 0x10];
    for index in 0..10_000 {
        frame.extend_from_slice(&[0, 5]);
        frame.extend_from_slice(format!("t{index:04}").as_bytes());
    }
    frame.push(1);
    let request = decode::<MetadataRequest>(&frame, 4).unwrap();
    assert_eq!(request.topics.unwrap().len(), 10_000);
}

/// Three arrays within each other, each stating as many elements as the bytes left could hold: each alone is within
/// the bound, together they are not.
#[test]
fn nested_arrays_share_one_allowance() {
    let compact = |count: u32| {
        let length = count + 1;
        [
            length as u8 | 0x80,
            (length >> 7) as u8 | 0x80,
            (length >> 14) as u8,
        ]
    };
    let mut frame = vec![0, 0, 0, 0];
    frame.extend_from_slice(&compact(140_000));
    // The first result: no error, null, a topic without a name.
    frame.extend_from_slice(&[0, 0, 0, 2, 1]);
    frame.extend_from_slice(&compact(100_000));
    // Its first configuration: no name, null, three flags.
    frame.extend_from_slice(&[1, 0, 0, 5, 0]);
    frame.extend_from_slice(&compact(200_000));
    frame.resize(1_000_000, 1);
    assert_eq!(
        decode::<DescribeConfigsResponse>(&frame, 4),
        Err(DecodeError::AllowanceExceeded)
    );
}

#[test]
fn every_short_frame_of_extreme_bytes() {
    let extremes = [0, 1, 2, 0x7f, 0x80, 0xff];
    for length in 0..=4u32 {
        for number in 0..6usize.pow(length) {
            let frame: Vec<u8> = (0..length)
                .map(|digit| extremes[number / 6usize.pow(digit) % 6])
                .collect();
            decode_everything(&frame);
        }
    }
}

/// A value repeated over the whole frame is a count, then that many elements that are counts again, and so on.
#[test]
fn one_byte_repeated() {
    for byte in 0..=255 {
        for length in [5, 64, 1000] {
            decode_everything(&vec![byte; length]);
        }
    }
}

/// CVE-2023-34455: what snappy states is not taken at its word, even if the caller would allow it.
#[test]
fn snappy_states_no_more_than_it_can_hold() {
    let bare: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f];
    let a_block_of_two_gigabytes: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff\0";
    let a_block_that_states_them: &[u8] =
        b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x06\xff\xff\xff\xff\x07\0";
    for data in [bare, a_block_of_two_gigabytes, a_block_that_states_them] {
        let (result, peak) = peak_of(|| Compression::Snappy.decompress(data, usize::MAX));
        assert!(
            matches!(result, Err(CompressionError::Corrupt { .. })),
            "{result:?}"
        );
        assert!(peak < 1024, "{peak} bytes were allocated");
    }
}

#[test]
fn records_and_names_are_slices_of_the_frame() {
    let mut frame = vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0x75, 0x30, 0, 0, 0, 1, 0, 5];
    frame.extend_from_slice(b"topic\0\0\0\x01\0\0\0\0");
    frame.extend_from_slice(&(1i32 << 20).to_be_bytes());
    frame.resize(frame.len() + (1 << 20), 7);
    let frame = Bytes::from(frame);
    let (request, peak) =
        peak_of(|| ProduceRequest::decode(&mut Reader::new(frame.clone()), 7).unwrap());
    assert!(peak < 1024, "{peak} bytes were allocated");
    let within = |part: &[u8]| frame.as_ptr_range().contains(&part.as_ptr());
    let topic = &request.topic_data[0];
    assert!(within(topic.name.as_bytes()));
    assert!(
        matches!(&topic.partition_data[0].records, Records::Inline(records) if within(records))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn random_bytes(frame in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_everything(&frame);
    }

    /// Small numbers pass for counts and lengths, so these get deep.
    #[test]
    fn random_small_bytes(frame in prop::collection::vec(prop_oneof![4 => Just(0u8), 4 => 0..4u8, 1 => any::<u8>()], 0..400)) {
        decode_everything(&frame);
    }
}
