"""What comes from elsewhere runs nothing and harms nothing: damaged files, names, images, links, full disks."""
