def test_x(studio):
    print(sorted(p.name for p in studio.iterdir()))
