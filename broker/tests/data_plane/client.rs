//! A client that says exactly what a test wants it to say.

use bytes::{Bytes, BytesMut};
use kafka_wire::compression::Compression;
use kafka_wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData};
use kafka_wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use kafka_wire::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use kafka_wire::record_batch::{BatchHeader, RecordBatchBuilder, batches};
use kafka_wire::{ByteString, Records, Request, decode_response, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const TOPIC: &str = "t";

pub(crate) struct Client {
    socket: TcpStream,
    buffer: BytesMut,
    correlation_id: i32,
}

impl Client {
    pub(crate) async fn connect(port: u16) -> Client {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        Client {
            socket,
            buffer: BytesMut::new(),
            correlation_id: 0,
        }
    }

    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let frame = encode_request(self.correlation_id, Some("test"), version, request).unwrap();
        self.socket.write_all(&frame).await.unwrap();
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The next frame, `None` if the broker has closed the connection.
    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(size) = self.buffer.get(..4) {
                let size = u32::from_be_bytes(size.try_into().unwrap()) as usize;
                if self.buffer.len() >= 4 + size {
                    return Some(self.buffer.split_to(4 + size).split_off(4).freeze());
                }
            }
            if self.socket.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let frame = self.frame().await.expect("the connection is open");
        decode_response::<R>(frame, version).unwrap()
    }

    pub(crate) async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        let (correlation_id, response) = self.receive::<R>(version).await;
        assert_eq!(correlation_id, self.correlation_id);
        response
    }

    pub(crate) async fn produce(&mut self, acks: i16, records: Bytes) -> PartitionProduceResponse {
        let mut response = self.ask(9, &produce(acks, records)).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// What a consumer reads from that offset, without waiting.
    pub(crate) async fn fetch(&mut self, offset: i64) -> PartitionData {
        let mut response: FetchResponse = self.ask(11, &fetch(offset)).await;
        response.responses.remove(0).partitions.remove(0)
    }

    pub(crate) async fn list_offsets(
        &mut self,
        request: &ListOffsetsRequest,
    ) -> ListOffsetsPartitionResponse {
        let mut response = self.ask(7, request).await;
        response.topics.remove(0).partitions.remove(0)
    }
}

pub(crate) fn produce(acks: i16, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData {
        index: 0,
        records: Records::Inline(records),
    };
    let topic = TopicProduceData {
        name: ByteString::from_static(TOPIC),
        partition_data: vec![partition],
    };
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![topic],
        ..ProduceRequest::default()
    }
}

pub(crate) fn fetch(offset: i64) -> FetchRequest {
    let partition = FetchPartition {
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic = ByteString::from_static(TOPIC);
    let topic = FetchTopic {
        topic,
        partitions: vec![partition],
        ..FetchTopic::default()
    };
    FetchRequest {
        max_bytes: 1 << 20,
        min_bytes: 1,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}

/// A consumer's question.
pub(crate) fn list_offsets(timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition {
        timestamp,
        ..ListOffsetsPartition::default()
    };
    let topic = ListOffsetsTopic {
        name: ByteString::from_static(TOPIC),
        partitions: vec![partition],
    };
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![topic],
        ..ListOffsetsRequest::default()
    }
}

pub(crate) fn batch(values: &[&str]) -> Bytes {
    fill(RecordBatchBuilder::new(Compression::None), values)
}

pub(crate) fn idempotent_batch(producer_id: i64, sequence: i32, values: &[&str]) -> Bytes {
    fill(
        RecordBatchBuilder::new(Compression::None).producer(producer_id, 0, sequence),
        values,
    )
}

pub(crate) fn fill(mut builder: RecordBatchBuilder, values: &[&str]) -> Bytes {
    for (at, value) in values.iter().enumerate() {
        builder
            .append(1000 + at as i64, None, Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.build().unwrap()
}

pub(crate) fn bytes(data: &PartitionData) -> &[u8] {
    match &data.records {
        Records::Inline(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn headers(data: &PartitionData) -> Vec<BatchHeader> {
    batches(bytes(data))
        .map(|batch| batch.unwrap().header)
        .collect()
}

pub(crate) fn values(data: &PartitionData) -> Vec<String> {
    let mut values = Vec::new();
    for batch in batches(bytes(data)) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        for record in batch.records(1 << 20).unwrap().iter() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values
}
