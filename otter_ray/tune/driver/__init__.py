"""What runs in the driver while trials run: Ray Tune's controller and its callbacks."""
