"""A study on a Ray that runs already."""


def test_a_dry_run_looks_at_the_living_ray_and_starts_nothing(tune_here, tmp_path):
    arguments = ["--dry-run", "--samples", 0, "--set", "dataloader.train_options.num_workers=24"]
    code, output = tune_here("demo", *arguments, folder=tmp_path)
    assert code == 0, output
    assert "plan: 14 trials on 2 slots of 1 CPU and 0 GPUs each (1 node, 2 CPUs, 0 GPUs): 7 rounds" in output
    assert "does not require a token" in output
    assert "dataloader.train_options.num_workers 24 becomes 0" in output
    assert not list(tmp_path.iterdir())
