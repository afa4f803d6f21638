import sys
from collections import Counter
from contextlib import ExitStack
import pytest
import tests.cost.test_python_work as t
counts=Counter()
def prof(frame,event,arg):
    if event=='call':
        co=frame.f_code
        counts[f"py {co.co_filename.split('/')[-1]}:{co.co_firstlineno} {co.co_qualname}"]+=1
    elif event=='c_call':
        counts[f"c  {getattr(arg,'__qualname__',arg)}  <- {frame.f_code.co_filename.split('/')[-1]}:{frame.f_code.co_name}"]+=1
@pytest.mark.parametrize("way", list(t.WAYS))
def test_x(served, way):
    with ExitStack() as stack:
        play=t.WAYS[way](served,stack)
        play(); counts.clear()
        served.on_loop(lambda: sys.setprofile(prof))
        steps=play()
        served.on_loop(lambda: sys.setprofile(None))
    tot=0
    print("\n==",way)
    for k,v in counts.most_common():
        if v/steps>=0.1: print(f"{v/steps:7.2f} {k}")
        tot+=v
    print(tot/steps)
