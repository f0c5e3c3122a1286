"""The paper's table and ablations (M-45 to M-47).

``task`` is what is asked, ``experiments`` what is compared, ``units`` what is
done once, ``verdicts`` what came out; ``run`` does it all.
"""
