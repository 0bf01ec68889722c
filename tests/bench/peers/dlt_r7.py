"""A dlt pipeline for the API, into JSON lines."""

import os

import dlt
from dlt.sources.rest_api import rest_api_source

PAGES = {"type": "page_number", "base_page": 0, "page_param": "index", "total_path": "metadata.total_pages"}
resources = [
    {
        "name": "investigations",
        "primary_key": "rrn",
        "write_disposition": "append",
        "endpoint": {
            "path": "idr/v2/investigations",
            "data_selector": "data",
            "paginator": PAGES,
            "params": {"size": 100, "sort": "created_time,ASC", "start_time": "{incremental.start_value}"},
            "incremental": {"cursor_path": "created_time", "initial_value": os.environ["PEER_START"]},
        },
    }
]
if os.environ.get("PEER_ALERTS"):
    resources.append(
        {
            "name": "alerts",
            "write_disposition": "append",
            "endpoint": {
                "path": "idr/v2/investigations/{resources.investigations.rrn}/alerts",
                "data_selector": "data",
                "paginator": PAGES,
                "params": {"size": 100},
            },
        }
    )
source = rest_api_source(
    {
        "client": {
            "base_url": os.environ["PEER_URL"],
            "headers": {"X-Api-Key": os.environ["PEER_KEY"], "Accept-version": "investigations-preview"},
        },
        "resources": resources,
    }
)
out = os.path.abspath("dlt-out")
pipeline = dlt.pipeline("r7", destination=dlt.destinations.filesystem(f"file://{out}"), dataset_name="r7", pipelines_dir="dlt-state")
pipeline.run(source, loader_file_format="jsonl")
