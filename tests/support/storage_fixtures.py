"""Places that a study can be kept in: S3 (moto's server) and a path."""

import pytest

BUCKET = "studies"


@pytest.fixture(scope="module")
def s3():
    """A real HTTP server that speaks S3; the environment says where, as it does for users."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = f"http://127.0.0.1:{server._server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing_secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
    server.stop()


@pytest.fixture(params=["s3", "path"])
def place(request, tmp_path):
    """What --storage is given."""
    if request.param == "path":
        return str(tmp_path / "nfs")
    request.getfixturevalue("s3")
    return f"s3://{BUCKET}/{tmp_path.name}"
