"""Pictures of a scene as Slicer's views draw it: real displayable managers, no display needed.

Done as the notes on slicer-core say (slicer-runtime.md 2). Compare pictures of one machine only,
and with a tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import vtk
from real_slicer import real_slicer
from vtk.util.numpy_support import vtk_to_numpy

MANAGERS_2D = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)
MANAGERS_3D = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)
OFFSCREEN = {"linux": "vtkEGLRenderWindow"}


class View:
    """An offscreen window with the managers of one kind of view."""

    def __init__(self, slicer: Any, scene: Any, factory: Any, managers: tuple[str, ...]) -> None:
        self.logic = slicer.vtkSlicerApplicationLogic()
        self.logic.SetMRMLScene(scene)
        self.logic.SetSliceLogics(vtk.vtkCollection())
        self.logic.SetViewLogics(vtk.vtkCollection())
        factory.SetMRMLApplicationLogic(self.logic)
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self.renderer = vtk.vtkRenderer()
        # CTK draws the slice in the application. First of all: segments are blended over it.
        self.image = vtk.vtkImageMapper()
        self.image.SetColorWindow(255)
        self.image.SetColorLevel(127.5)
        if managers is MANAGERS_2D:
            actor = vtk.vtkActor2D()
            actor.SetMapper(self.image)
            actor.GetProperty().SetDisplayLocationToBackground()
            self.renderer.AddViewProp(actor)
        self.window = _offscreen_window()
        self.window.SetOffScreenRendering(True)
        self.window.SetMultiSamples(0)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        self.group.Initialize(factory, self.renderer)

    def save(self, path: Path | str) -> np.ndarray:
        """Draw into a PNG; gives its pixels (rows from the top, columns, RGB)."""
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.SetInputBufferTypeToRGB()
        grab.ReadFrontBufferOff()
        grab.Update()
        writer = vtk.vtkPNGWriter()
        writer.SetFileName(str(path))
        writer.SetInputConnection(grab.GetOutputPort())
        writer.Write()
        image = grab.GetOutput()
        columns, rows, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 3)[::-1]


def _offscreen_window() -> Any:
    """EGL where there is one, so that a DISPLAY is neither needed nor used."""
    import sys

    name = OFFSCREEN.get(sys.platform, "")
    kind = getattr(vtk, name, None)
    return kind() if kind is not None else vtk.vtkRenderWindow()


@contextmanager
def _added_nodes_removed(scene: Any) -> Iterator[None]:
    before = {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}
    try:
        yield
    finally:
        for n in reversed(range(scene.GetNumberOfNodes())):
            node = scene.GetNthNode(n)
            if node is not None and node.GetID() not in before:
                scene.RemoveNode(node)


def renderSlice(
    scene: Any,
    orientation: str,
    path: Path | str,
    size: tuple[int, int] = (512, 512),
    volume: Any = None,
    at: tuple[float, float, float] | None = None,
) -> np.ndarray:
    """Draw a slice with the segmentations over it.

    Args:
        scene: what to draw.
        orientation: "Axial", "Sagittal" or "Coronal".
        path: PNG to write.
        size: columns and rows in pixels.
        volume: the background; the scene's first scalar volume if None.
        at: RAS millimetres that the slice goes through; the volume's middle if None.

    Returns:
        the pixels (rows, columns, RGB).
    """
    slicer = real_slicer()
    volume = volume or scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
    with _added_nodes_removed(scene):
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        view = View(slicer, scene, factory, MANAGERS_2D)
        view.window.SetSize(*size)
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(view.logic)
        logic.SetMRMLScene(scene)
        view.logic.GetSliceLogics().AddItem(logic)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
        node = logic.AddSliceNode("Picture")
        node.SetOrientation(orientation)
        view.group.SetMRMLDisplayableNode(node)
        if volume is not None:
            logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        logic.ResizeSliceNode(*size)
        logic.FitSliceToAll()
        if at is not None:
            node.JumpSlice(*at)
        view.image.SetInputConnection(logic.GetImageDataConnection())
        pixels = view.save(path)
        view.group.SetMRMLDisplayableNode(None)
        logic.SetMRMLScene(None)
        view.logic.SetMRMLScene(None)
    return pixels


def render3D(scene: Any, path: Path | str, size: tuple[int, int] = (512, 512)) -> np.ndarray:
    """Draw the scene's 3D view from the front; arguments and result as of `renderSlice`."""
    slicer = real_slicer()
    with _added_nodes_removed(scene):
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        view = View(slicer, scene, factory, MANAGERS_3D)
        view.window.SetSize(*size)
        logic = slicer.vtkMRMLViewLogic()
        logic.SetMRMLApplicationLogic(view.logic)
        logic.SetMRMLScene(scene)
        view.group.SetMRMLDisplayableNode(logic.AddViewNode("1"))
        view.renderer.GetActiveCamera().SetViewUp(0, 0, 1)
        view.renderer.GetActiveCamera().SetPosition(0, 500, 0)
        view.renderer.GetActiveCamera().SetFocalPoint(0, 0, 0)
        view.renderer.ResetCamera()
        pixels = view.save(path)
        view.group.SetMRMLDisplayableNode(None)
        logic.SetMRMLScene(None)
        view.logic.SetMRMLScene(None)
    return pixels
