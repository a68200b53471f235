"""S3 as its public conformance suites ask it: multipart uploads, listings, conditions, keep-alive.

    s3_conformance.py ENDPOINT ACCESS-KEY SECRET-KEY [EXCLUSIONS]

Each case has a bucket of its own. EXCLUSIONS is a list of cases that are known to fail, one a line with
the reason; one that passes all the same is a failure too, so that the list stays true.
"""

import http.client
import sys
import traceback
import urllib.parse

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

MIB = 1 << 20
CASES = []


def case(function):
    CASES.append(function)
    return function


class Bucket:
    """A bucket, and boto3 with the bucket's name filled in."""

    def __init__(self, endpoint, access, secret, name):
        self.endpoint, self.access, self.secret, self.name = endpoint, access, secret, name
        config = Config(
            s3={"addressing_style": "path"},
            retries={"max_attempts": 0},
            read_timeout=20,
            max_pool_connections=1,
        )
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=access,
            aws_secret_access_key=secret,
            region_name="us-east-1",
            config=config,
        )
        self.client.create_bucket(Bucket=name)

    def __getattr__(self, call):
        method = getattr(self.client, call)
        return lambda **arguments: method(Bucket=self.name, **arguments)

    def put(self, key, body=b"", **more):
        return self.put_object(Key=key, Body=body, **more)["ETag"]

    def get(self, key, **more):
        return self.get_object(Key=key, **more)["Body"].read()

    def fill(self, *keys):
        for key in keys:
            self.put(key, key.encode())

    def begin(self, key, **more):
        return self.create_multipart_upload(Key=key, **more)["UploadId"]

    def part(self, key, upload, number, body):
        answer = self.upload_part(Key=key, UploadId=upload, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def complete(self, key, upload, parts, **more):
        return self.complete_multipart_upload(
            Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **more
        )

    def uploaded(self, key, *bodies):
        upload = self.begin(key)
        parts = [self.part(key, upload, n + 1, body) for n, body in enumerate(bodies)]
        return upload, parts

    def raw(self, method, path, body=b"", headers=None, connection=None):
        """A signed request as no client would send it."""
        url = f"{self.endpoint}/{self.name}{path}"
        request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
        S3SigV4Auth(Credentials(self.access, self.secret), "s3", "us-east-1").add_auth(request)
        own = connection is None
        connection = connection or self.connection()
        address = urllib.parse.urlsplit(url)
        target = address.path + ("?" + address.query if address.query else "")
        connection.request(method, target, body, dict(request.headers))
        answer = connection.getresponse()
        text = answer.read()
        if own:
            connection.close()
        return answer.status, text

    def connection(self):
        return http.client.HTTPConnection(urllib.parse.urlsplit(self.endpoint).netloc, timeout=20)


def refused(status, code, call):
    try:
        call()
    except ClientError as error:
        seen = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        assert seen == (status, code), f"{seen} instead of {(status, code)}"
        return
    raise AssertionError(f"it was not refused with {(status, code)}")


def keys(answer):
    return [entry["Key"] for entry in answer.get("Contents", [])]


def prefixes(answer):
    return [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])]


# One connection, request after request.


@case
def empty_put_keeps_the_connection(b):
    b.put("empty")
    b.put("next", b"body")
    b.put("empty-again")
    assert b.get("next") == b"body" and b.get("empty") == b""


@case
def empty_put_that_expects_100_continue(b):
    connection = b.connection()
    for key in ("/a", "/b", "/c"):
        status, _ = b.raw("PUT", key, headers={"Expect": "100-continue"}, connection=connection)
        assert status == 200, status
    status, _ = b.raw("PUT", "/d", b"body", connection=connection)
    assert status == 200 and b.get("d") == b"body"


@case
def refused_put_keeps_the_connection(b):
    upload = b.begin("key")
    b.abort_multipart_upload(Key="key", UploadId=upload)
    refused(404, "NoSuchUpload", lambda: b.part("key", upload, 1, b"x" * MIB))
    b.put("next", b"body")
    assert b.get("next") == b"body"


# Objects.


@case
def object_of_no_bytes(b):
    b.put("key")
    head = b.head_object(Key="key")
    assert head["ContentLength"] == 0 and head["ETag"] == '"d41d8cd98f00b204e9800998ecf8427e"'


@case
def object_is_replaced(b):
    first, second = b.put("key", b"first"), b.put("key", b"second!")
    assert first != second and b.get("key") == b"second!"


@case
def object_that_is_not_there(b):
    refused(404, "NoSuchKey", lambda: b.get("key"))
    refused(404, "404", lambda: b.head_object(Key="key"))
    b.delete_object(Key="key")


@case
def metadata_and_headers_come_back(b):
    said = dict(ContentType="text/x", CacheControl="no-cache", ContentDisposition="inline", ContentLanguage="de")
    b.put("key", b"x", Metadata={"name": "value", "Other": "Two"}, **said)
    head = b.head_object(Key="key")
    assert head["Metadata"] == {"name": "value", "other": "Two"}, head["Metadata"]
    assert {name: head[name] for name in said} == said


@case
def ranges(b):
    b.put("key", b"0123456789")
    for asked, got, told in [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-20", b"0123456789", "bytes 0-9/10"),
        ("bytes=5-99", b"56789", "bytes 5-9/10"),
    ]:
        answer = b.get_object(Key="key", Range=asked)
        assert answer["Body"].read() == got, asked
        assert answer["ContentRange"] == told, answer["ContentRange"]
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    refused(416, "InvalidRange", lambda: b.get("key", Range="bytes=10-12"))
    b.put("empty")
    refused(416, "InvalidRange", lambda: b.get("empty", Range="bytes=0-0"))


@case
def content_md5_is_checked(b):
    refused(400, "BadDigest", lambda: b.put("key", b"x", ContentMD5="rL0Y20zC+Fzt72VPzMSk2A=="))
    refused(400, "InvalidDigest", lambda: b.put("key", b"x", ContentMD5="not base64"))
    refused(404, "NoSuchKey", lambda: b.get("key"))


@case
def many_are_deleted_at_once(b):
    b.fill("a", "b", "c")
    names = [{"Key": name} for name in ("a", "b", "never-was")]
    answer = b.delete_objects(Delete={"Objects": names})
    assert sorted(one["Key"] for one in answer["Deleted"]) == ["a", "b", "never-was"]
    assert keys(b.list_objects_v2()) == ["c"]
    assert "Deleted" not in b.delete_objects(Delete={"Objects": [{"Key": "c"}], "Quiet": True})
    assert keys(b.list_objects_v2()) == []


@case
def a_bucket_that_is_not_empty_stays(b):
    b.put("key")
    refused(409, "BucketNotEmpty", b.delete_bucket)
    b.delete_object(Key="key")
    b.delete_bucket()
    refused(404, "NoSuchBucket", b.list_objects_v2)


# Copies.


@case
def copy_of_an_object(b):
    b.put("from", b"body", Metadata={"a": "1"}, ContentType="text/x")
    copied = b.copy_object(Key="to", CopySource=f"{b.name}/from")
    assert copied["CopyObjectResult"]["ETag"] == b.head_object(Key="from")["ETag"]
    head = b.head_object(Key="to")
    assert b.get("to") == b"body" and head["Metadata"] == {"a": "1"} and head["ContentType"] == "text/x"
    b.copy_object(
        Key="to", CopySource=f"{b.name}/from", MetadataDirective="REPLACE", Metadata={"b": "2"}
    )
    assert b.head_object(Key="to")["Metadata"] == {"b": "2"}
    refused(404, "NoSuchKey", lambda: b.copy_object(Key="to", CopySource=f"{b.name}/never-was"))


@case
def copy_onto_itself(b):
    b.put("key", b"body", Metadata={"a": "1"})
    source = f"{b.name}/key"
    refused(400, "InvalidRequest", lambda: b.copy_object(Key="key", CopySource=source))
    b.copy_object(Key="key", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"})
    assert b.get("key") == b"body" and b.head_object(Key="key")["Metadata"] == {"b": "2"}


@case
def copy_of_an_odd_name(b):
    for name in ("with space", "with+plus", "with%41percent", "ünï", "a/b?c=d&e", "q\"uote"):
        b.put(name, name.encode())
        b.copy_object(Key=name + "-copy", CopySource={"Bucket": b.name, "Key": name})
        assert b.get(name + "-copy") == name.encode(), name


@case
def copy_with_conditions(b):
    etag = b.put("from", b"body")
    source = f"{b.name}/from"
    b.copy_object(Key="to", CopySource=source, CopySourceIfMatch=etag)
    b.copy_object(Key="to", CopySource=source, CopySourceIfNoneMatch='"other"')
    for wrong in (dict(CopySourceIfMatch='"other"'), dict(CopySourceIfNoneMatch=etag)):
        refused(412, "PreconditionFailed", lambda: b.copy_object(Key="to", CopySource=source, **wrong))


# Conditions.


@case
def get_with_conditions(b):
    etag = b.put("key", b"body")
    assert b.get("key", IfMatch=etag) == b"body"
    assert b.get("key", IfNoneMatch='"other"') == b"body"
    refused(412, "PreconditionFailed", lambda: b.get("key", IfMatch='"other"'))
    refused(304, "304", lambda: b.get("key", IfNoneMatch=etag))
    refused(304, "304", lambda: b.head_object(Key="key", IfNoneMatch=etag))
    refused(412, "412", lambda: b.head_object(Key="key", IfMatch='"other"'))


@case
def get_with_times(b):
    b.put("key", b"body")
    assert b.get("key", IfModifiedSince="Sat, 29 Oct 1994 19:43:31 GMT") == b"body"
    refused(412, "PreconditionFailed", lambda: b.get("key", IfUnmodifiedSince="Sat, 29 Oct 1994 19:43:31 GMT"))
    assert b.get("key", IfUnmodifiedSince="Tue, 29 Oct 2199 19:43:31 GMT") == b"body"
    last = b.head_object(Key="key")["LastModified"]
    refused(304, "304", lambda: b.get("key", IfModifiedSince=last))


@case
def put_if_it_is_absent(b):
    b.put("key", b"first", IfNoneMatch="*")
    refused(412, "PreconditionFailed", lambda: b.put("key", b"second", IfNoneMatch="*"))
    assert b.get("key") == b"first"
    b.delete_object(Key="key")
    b.put("key", b"third", IfNoneMatch="*")


@case
def put_if_it_is_the_same(b):
    etag = b.put("key", b"first")
    refused(412, "PreconditionFailed", lambda: b.put("key", b"second", IfMatch='"other"'))
    b.put("key", b"second", IfMatch=etag)
    refused(412, "PreconditionFailed", lambda: b.put("key", b"third", IfMatch=etag))
    refused(404, "NoSuchKey", lambda: b.put("never-was", b"x", IfMatch=etag))
    assert b.get("key") == b"second"


@case
def complete_if_it_is_absent(b):
    upload, parts = b.uploaded("key", b"new")
    b.put("key", b"old")
    refused(412, "PreconditionFailed", lambda: b.complete("key", upload, parts, IfNoneMatch="*"))
    assert b.get("key") == b"old"
    b.delete_object(Key="key")
    b.complete("key", upload, parts, IfNoneMatch="*")
    assert b.get("key") == b"new"


@case
def complete_if_it_is_the_same(b):
    etag = b.put("key", b"old")
    upload, parts = b.uploaded("key", b"new")
    refused(412, "PreconditionFailed", lambda: b.complete("key", upload, parts, IfMatch='"other"'))
    b.complete("key", upload, parts, IfMatch=etag)
    assert b.get("key") == b"new"
    upload, parts = b.uploaded("never-was", b"new")
    refused(404, "NoSuchKey", lambda: b.complete("never-was", upload, parts, IfMatch=etag))


@case
def delete_if_it_is_the_same(b):
    etag = b.put("key", b"body")
    refused(412, "PreconditionFailed", lambda: b.delete_object(Key="key", IfMatch='"other"'))
    b.delete_object(Key="key", IfMatch=etag)
    assert keys(b.list_objects_v2()) == []


# Multipart uploads.


@case
def upload_of_several_parts(b):
    bodies = [b"a" * (5 * MIB), b"b" * (6 * MIB), b"c" * 7]
    upload = b.begin("key", Metadata={"a": "1"}, ContentType="text/x")
    parts = [b.part("key", upload, n + 1, body) for n, body in enumerate(bodies)]
    assert b.list_objects_v2()["KeyCount"] == 0
    answer = b.complete("key", upload, parts)
    head = b.head_object(Key="key")
    assert answer["ETag"] == head["ETag"] and head["ETag"].endswith('-3"')
    assert head["Metadata"] == {"a": "1"} and head["ContentType"] == "text/x"
    assert b.get("key") == b"".join(bodies)
    assert "Uploads" not in b.list_multipart_uploads()


@case
def upload_without_parts(b):
    upload = b.begin("key")
    refused(400, "MalformedXML", lambda: b.complete("key", upload, []))
    b.abort_multipart_upload(Key="key", UploadId=upload)


@case
def upload_of_parts_with_gaps(b):
    upload = b.begin("key")
    parts = [b.part("key", upload, n, body) for n, body in ((3, b"a" * (5 * MIB)), (9, b"b"))]
    b.complete("key", upload, parts)
    assert b.get("key") == b"a" * (5 * MIB) + b"b"


@case
def part_is_sent_again(b):
    upload, _ = b.uploaded("key", b"first")
    part = b.part("key", upload, 1, b"second!")
    assert [p["Size"] for p in b.list_parts(Key="key", UploadId=upload)["Parts"]] == [7]
    b.complete("key", upload, [part])
    assert b.get("key") == b"second!"


@case
def part_numbers_have_bounds(b):
    upload = b.begin("key")
    for number in (0, 10_001):
        refused(400, "InvalidArgument", lambda: b.part("key", upload, number, b"x"))
    b.part("key", upload, 10_000, b"x")


@case
def small_part_is_refused_at_complete(b):
    upload, parts = b.uploaded("key", b"small", b"last")
    refused(400, "EntityTooSmall", lambda: b.complete("key", upload, parts))
    b.abort_multipart_upload(Key="key", UploadId=upload)


@case
def parts_must_be_named_as_they_are(b):
    upload, parts = b.uploaded("key", b"a" * (5 * MIB), b"b")
    refused(400, "InvalidPartOrder", lambda: b.complete("key", upload, parts[::-1]))
    wrong = [parts[0], {"PartNumber": 2, "ETag": '"ffffffffffffffffffffffffffffffff"'}]
    refused(400, "InvalidPart", lambda: b.complete("key", upload, wrong))
    missing = parts + [{"PartNumber": 3, "ETag": parts[1]["ETag"]}]
    refused(400, "InvalidPart", lambda: b.complete("key", upload, missing))
    b.complete("key", upload, parts)


@case
def some_parts_may_be_left_out(b):
    upload, parts = b.uploaded("key", b"a" * (5 * MIB), b"b" * (5 * MIB), b"c")
    b.complete("key", upload, [parts[0], parts[2]])
    assert b.get("key") == b"a" * (5 * MIB) + b"c"


@case
def complete_again_succeeds(b):
    upload, parts = b.uploaded("key", b"body")
    first, second = b.complete("key", upload, parts), b.complete("key", upload, parts)
    assert first["ETag"] == second["ETag"] and b.get("key") == b"body"


@case
def aborted_upload_is_gone(b):
    upload, parts = b.uploaded("key", b"body")
    b.abort_multipart_upload(Key="key", UploadId=upload)
    for call in (
        lambda: b.abort_multipart_upload(Key="key", UploadId=upload),
        lambda: b.list_parts(Key="key", UploadId=upload),
        lambda: b.part("key", upload, 2, b"x"),
        lambda: b.complete("key", upload, parts),
    ):
        refused(404, "NoSuchUpload", call)
    assert "Uploads" not in b.list_multipart_uploads() and keys(b.list_objects_v2()) == []


@case
def abort_of_a_completed_upload(b):
    upload, parts = b.uploaded("key", b"body")
    b.complete("key", upload, parts)
    refused(404, "NoSuchUpload", lambda: b.abort_multipart_upload(Key="key", UploadId=upload))
    assert b.get("key") == b"body"


@case
def upload_id_of_another_key(b):
    upload = b.begin("key")
    refused(404, "NoSuchUpload", lambda: b.part("other", upload, 1, b"x"))
    refused(404, "NoSuchUpload", lambda: b.abort_multipart_upload(Key="other", UploadId=upload))


@case
def two_uploads_of_one_key(b):
    (first, of_first), (second, of_second) = b.uploaded("key", b"first"), b.uploaded("key", b"second")
    b.complete("key", second, of_second)
    b.complete("key", first, of_first)
    assert b.get("key") == b"first"


@case
def list_of_uploads(b):
    begun = [(key, b.begin(key)) for key in ("b", "a", "dir/x", "dir/y", "c")]
    listed = [(one["Key"], one["UploadId"]) for one in b.list_multipart_uploads()["Uploads"]]
    assert listed == sorted(begun), listed
    answer = b.list_multipart_uploads(Delimiter="/")
    assert [one["Key"] for one in answer["Uploads"]] == ["a", "b", "c"]
    assert prefixes(answer) == ["dir/"]
    answer = b.list_multipart_uploads(Prefix="dir/")
    assert [one["Key"] for one in answer["Uploads"]] == ["dir/x", "dir/y"]


@case
def list_of_uploads_in_pages(b):
    begun = {(key, b.begin(key)) for key in ("a", "a", "a", "b", "c")}
    found, marker = [], {}
    while True:
        page = b.list_multipart_uploads(MaxUploads=2, **marker)
        assert len(page["Uploads"]) <= 2
        found += [(one["Key"], one["UploadId"]) for one in page["Uploads"]]
        if not page["IsTruncated"]:
            break
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert len(found) == 5 and set(found) == begun


@case
def list_of_parts_in_pages(b):
    upload, _ = b.uploaded("key", b"1", b"22", b"333")
    first = b.list_parts(Key="key", UploadId=upload, MaxParts=2)
    assert [p["Size"] for p in first["Parts"]] == [1, 2] and first["IsTruncated"]
    rest = b.list_parts(Key="key", UploadId=upload, PartNumberMarker=first["NextPartNumberMarker"])
    assert [p["PartNumber"] for p in rest["Parts"]] == [3] and not rest["IsTruncated"]


@case
def part_that_is_a_copy(b):
    body = bytes(range(256)) * (6 * MIB // 256)
    b.put("from", body)
    upload = b.begin("to")
    parts = []
    for number, asked in enumerate((None, "bytes=0-0", "bytes=100-199")):
        more = {"CopySourceRange": asked} if asked else {}
        answer = b.upload_part_copy(
            Key="to", UploadId=upload, PartNumber=number + 1, CopySource=f"{b.name}/from", **more
        )
        parts.append({"PartNumber": number + 1, "ETag": answer["CopyPartResult"]["ETag"]})
    refused(400, "EntityTooSmall", lambda: b.complete("to", upload, parts))
    b.complete("to", upload, [parts[0], parts[2]])
    assert b.get("to") == body + body[100:200]


@case
def part_copied_from_outside_its_source(b):
    b.put("from", b"12345")
    upload = b.begin("to")
    copy = lambda asked: b.upload_part_copy(
        Key="to", UploadId=upload, PartNumber=1, CopySource=f"{b.name}/from", CopySourceRange=asked
    )
    refused(416, "InvalidRange", lambda: copy("bytes=0-21"))
    for wrong in ("0-2", "bytes=0", "bytes=hello-world", "bytes=0-bar", "bytes=0-2,3-5"):
        refused(400, "InvalidArgument", lambda: copy(wrong))


@case
def an_object_by_part_numbers(b):
    upload, parts = b.uploaded("key", b"a" * (5 * MIB), b"bc")
    b.complete("key", upload, parts)
    answer = b.get_object(Key="key", PartNumber=2)
    assert answer["Body"].read() == b"bc" and answer["PartsCount"] == 2


# Listings.


@case
def list_of_nothing(b):
    for answer in (b.list_objects(), b.list_objects_v2()):
        assert "Contents" not in answer and not answer["IsTruncated"]
    refused(404, "NoSuchBucket", lambda: b.client.list_objects_v2(Bucket=b.name + "-never-was"))


@case
def list_in_order_of_bytes(b):
    names = ["a", "A", "é", "~", "b/c", "b-c", "b", "𐍈", "\ufffd"]
    b.fill(*names)
    wanted = sorted(names, key=lambda name: name.encode())
    assert keys(b.list_objects()) == wanted and keys(b.list_objects_v2()) == wanted


@case
def list_with_delimiter(b):
    b.fill("a/b", "a/c/d", "e", "f/", "g")
    for call in (b.list_objects, b.list_objects_v2):
        answer = call(Delimiter="/")
        assert (keys(answer), prefixes(answer)) == (["e", "g"], ["a/", "f/"])
        answer = call(Delimiter="/", Prefix="a/")
        assert (keys(answer), prefixes(answer)) == (["a/b"], ["a/c/"])
        answer = call(Delimiter="/", Prefix="a")
        assert (keys(answer), prefixes(answer)) == ([], ["a/"])
        answer = call(Delimiter="/c", Prefix="")
        assert (keys(answer), prefixes(answer)) == (["a/b", "e", "f/", "g"], ["a/c"])
        answer = call(Delimiter="never")
        assert prefixes(answer) == [] and len(keys(answer)) == 5


@case
def list_with_odd_delimiters(b):
    b.fill("b%r", "b r", "c%", "foo", "b\u00e4r")
    for delimiter, wanted in (("%", ["b%", "c%"]), (" ", ["b "]), ("\u00e4", ["b\u00e4"])):
        assert prefixes(b.list_objects_v2(Delimiter=delimiter)) == wanted, delimiter


@case
def list_with_an_empty_delimiter(b):
    b.fill("a/b", "c")
    for answer in (b.list_objects(Delimiter=""), b.list_objects_v2(Delimiter="")):
        assert keys(answer) == ["a/b", "c"] and prefixes(answer) == [] and "Delimiter" not in answer


@case
def list_in_pages_v1(b):
    names = [f"k{n}" for n in range(7)]
    b.fill(*names)
    found, marker = [], ""
    while True:
        page = b.list_objects(MaxKeys=3, Marker=marker)
        found += keys(page)
        if not page["IsTruncated"]:
            break
        marker = keys(page)[-1]
    assert found == names
    assert keys(b.list_objects(Marker="k3-and-more")) == ["k4", "k5", "k6"]
    assert keys(b.list_objects(Marker="zzz")) == []


@case
def list_in_pages_v1_with_delimiter(b):
    b.fill("a/1", "a/2", "b", "c/1", "d")
    first = b.list_objects(MaxKeys=2, Delimiter="/")
    assert (keys(first), prefixes(first)) == (["b"], ["a/"]) and first["NextMarker"] == "b"
    rest = b.list_objects(Delimiter="/", Marker=first["NextMarker"])
    assert (keys(rest), prefixes(rest)) == (["d"], ["c/"])
    assert prefixes(b.list_objects(Delimiter="/", Marker="a/")) == ["c/"]


@case
def list_in_pages_v2(b):
    names = [f"k{n}" for n in range(7)]
    b.fill(*names)
    found, more = [], {}
    while True:
        page = b.list_objects_v2(MaxKeys=3, **more)
        found += keys(page)
        assert page["KeyCount"] == len(keys(page))
        if not page["IsTruncated"]:
            break
        more = {"ContinuationToken": page["NextContinuationToken"]}
    assert found == names
    assert keys(b.list_objects_v2(StartAfter="k4")) == ["k5", "k6"]


@case
def list_in_pages_v2_with_delimiter(b):
    b.fill("a/1", "a/2", "b", "c/1", "d")
    first = b.list_objects_v2(MaxKeys=1, Delimiter="/")
    assert (keys(first), prefixes(first), first["KeyCount"]) == ([], ["a/"], 1)
    rest = b.list_objects_v2(Delimiter="/", ContinuationToken=first["NextContinuationToken"])
    assert (keys(rest), prefixes(rest)) == (["b", "d"], ["c/"])


@case
def list_of_at_most_nothing(b):
    b.fill("a")
    for call in (b.list_objects, b.list_objects_v2):
        answer = call(MaxKeys=0)
        assert keys(answer) == [] and not answer["IsTruncated"]


@case
def list_with_wrong_words(b):
    for query in ("?max-keys=many", "?list-type=2&max-keys=many"):
        status, text = b.raw("GET", query)
        assert status == 400 and b"InvalidArgument" in text, (status, text)


@case
def list_encoded(b):
    names = ["a+b", "c d", "e%41", "f/é", "g\u0001h"]
    b.fill(*names)
    for query in ("?encoding-type=url", "?list-type=2&encoding-type=url"):
        status, text = b.raw("GET", query)
        assert status == 200
        listed = text.decode()
        for name in ("a%2Bb", "e%2541", "f/%C3%A9", "g%01h"):
            assert f"<Key>{name}</Key>" in listed, (name, listed)
        assert "<Key>c+d</Key>" in listed or "<Key>c%20d</Key>" in listed
    # boto3 undoes the encoding.
    assert keys(b.list_objects_v2()) == names


@case
def list_with_owner_and_prefix_of_all(b):
    b.fill("a")
    assert "Owner" in b.list_objects()["Contents"][0]
    assert "Owner" not in b.list_objects_v2()["Contents"][0]
    assert "Owner" in b.list_objects_v2(FetchOwner=True)["Contents"][0]


def excluded(path):
    listed = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, _, reason = line.partition(" ")
            if name.strip() and not name.startswith("#"):
                listed[name.strip()] = reason.strip()
    return listed


def main():
    endpoint, access, secret = sys.argv[1:4]
    exclusions = excluded(sys.argv[4]) if len(sys.argv) > 4 else {}
    names = {function.__name__ for function in CASES}
    bad = [f"{name}: no such case" for name in exclusions if name not in names]
    passed = 0
    for number, function in enumerate(CASES):
        name = function.__name__
        try:
            function(Bucket(endpoint, access, secret, f"conformance-{number}"))
        except Exception as error:  # whatever it is, the case has failed
            if name not in exclusions:
                where = traceback.extract_tb(error.__traceback__)
                line = [frame.lineno for frame in where if frame.name in (name, "<lambda>")]
                bad.append(f"{name}, line {line[:1]}: {type(error).__name__}: {error}")
            continue
        passed += 1
        if name in exclusions:
            bad.append(f"{name}: passes, and is excluded")
    print(f"{passed} of {len(CASES)} pass, {len(exclusions)} are excluded")
    for line in bad:
        print("FAILED", line)
    sys.exit(1 if bad else 0)


main()
