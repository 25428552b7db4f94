"""The vendor's clients open the files that our projects export, and answer as the gate does.

`make test-clients` runs these tests: the vendor's packages do not fit into our own environment. The fixture
`ask` installs them once into an environment of their own, in the user's cache.

To add a client, write two small files:

- `inside/ask_NAME.py`, a program that imports the client and nothing of ours. It defines `answers(job)`,
  which returns arrays by name, and ends with `main(answers)`. `job` is the dict that the test gives.
- `test_NAME.py`, which exports a tiny model with `onnx.wrapper_options: {channels: bgr}`, writes at least 100
  images of the test split (`write_images`), calls `ask("NAME", model=..., images=..., ...)` and compares the
  arrays with `exported.gate.test.metrics`: within 1e-3 if the images have the model's size, within 2e-2 if
  the client resizes them. `assert_json_metadata` checks what the clients parse when they open a file.
  `usefixtures("client_python")` skips the test before anything is trained.
"""
