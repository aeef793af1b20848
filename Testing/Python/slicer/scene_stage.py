"""A real MRML scene without the application: volumes, transforms, saving and loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from meddinov3.grid import Grid
from scipy.spatial.transform import Rotation


class Stage:
    """A scene with the logics that nodes ask for."""

    def __init__(self, slicer: Any) -> None:
        self.slicer = slicer
        self.scene = slicer.vtkMRMLScene()
        self.application = slicer.vtkSlicerApplicationLogic()
        self.application.SetMRMLScene(self.scene)
        self._logics = []
        for name, kind in (
            ("SubjectHierarchy", slicer.vtkSlicerSubjectHierarchyModuleLogic),
            ("Segmentations", slicer.vtkSlicerSegmentationsModuleLogic),
            ("Volumes", slicer.vtkSlicerVolumesLogic),
            ("Sequences", slicer.vtkSlicerSequencesLogic),
        ):
            logic = kind()
            logic.SetMRMLApplicationLogic(self.application)
            logic.SetMRMLScene(self.scene)
            self.application.SetModuleLogic(name, logic)
            self._logics.append(logic)

    def volume(self, grid: Grid, array: np.ndarray | None = None, name: str = "scan") -> Any:
        """A scalar volume on a grid, built without the code under test."""
        from vtk import vtkImageData, vtkMatrix4x4
        from vtk.util.numpy_support import numpy_to_vtk

        if array is None:
            array = np.arange(np.prod(grid.shape), dtype=np.int16).reshape(grid.shape)
        image = vtkImageData()
        image.SetDimensions(*grid.size)
        image.GetPointData().SetScalars(numpy_to_vtk(array.ravel(), deep=True))
        node = self.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        node.SetAndObserveImageData(image)
        matrix = vtkMatrix4x4()
        to_ras = np.diag([-1.0, -1.0, 1.0])
        axes, origin = to_ras @ grid.index_to_patient, to_ras @ np.array(grid.origin)
        for row in range(3):
            matrix.SetElement(row, 3, origin[row])
            for column in range(3):
                matrix.SetElement(row, column, axes[row, column])
        node.SetIJKToRASMatrix(matrix)
        return node

    def transform(self, matrix: np.ndarray, name: str = "transform") -> Any:
        from vtk import vtkMatrix4x4

        node = self.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
        held = vtkMatrix4x4()
        held.DeepCopy([float(value) for value in matrix.ravel()])
        node.SetMatrixTransformToParent(held)
        return node

    def paint(self, segmentation: Any, name: str, array: np.ndarray, grid: Grid) -> str:
        """Add a segment as a person would have drawn it (k, j, i)."""
        from MedDINOv3SlicerLib.scene.geometry import imageOf

        return segmentation.AddSegmentFromBinaryLabelmapRepresentation(
            imageOf(array.astype(np.uint8), grid), name, [0.1, 0.2, 0.3], name
        )

    def save_and_load(self, folder: Path, bundle: bool) -> Stage:
        """Save the scene to .mrb or .mrml with its files, and load it into another stage."""
        folder.mkdir()
        if bundle:
            path = folder / "scene.mrb"
            assert self.scene.WriteToMRB(str(path))
        else:
            path = folder / "scene.mrml"
            self.scene.SetURL(str(path))
            self.scene.SetRootDirectory(str(folder))
            for number in range(self.scene.GetNumberOfNodes()):
                node = self.scene.GetNthNode(number)
                if not node.IsA("vtkMRMLStorableNode") or not node.GetSaveWithScene():
                    continue
                node.AddDefaultStorageNode()
                storage = node.GetStorageNode()
                if storage is not None:
                    ending = storage.GetDefaultWriteFileExtension()
                    storage.SetFileName(str(folder / f"{node.GetID()}.{ending}"))
                    assert storage.WriteData(node)
            assert self.scene.Commit(str(path))
        other = Stage(self.slicer)
        if bundle:
            (folder / ".slicer-cache").touch()
            files = self.slicer.vtkDataIOManager()
            files.SetCacheManager(self.slicer.vtkCacheManager())
            files.GetCacheManager().SetRemoteCacheDirectory(str(folder))
            other.scene.SetDataIOManager(files)
            assert other.scene.ReadFromMRB(str(path))
        else:
            other.scene.SetURL(str(path))
            assert other.scene.Connect()
        return other

    def as_loaded(self, array: np.ndarray, grid: Grid) -> np.ndarray:
        """An array (k, j, i) as the first volume has it now.

        Slicer turns the slices of left-handed volumes round when it loads them.
        """
        from meddinov3.label_map import on_lattice
        from MedDINOv3SlicerLib.scene.volumes import gridOf

        seen = on_lattice(array, grid, gridOf(self.node("vtkMRMLScalarVolumeNode")))
        assert seen is not None and seen[0].shape == array.shape
        return seen[0]

    def node(self, kind: str, number: int = 0) -> Any:
        return self.scene.GetNthNodeByClass(number, kind)


def rigid(seed: int) -> np.ndarray:
    """A 4 x 4 rotation and shift."""
    random = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(random.uniform(-1, 1, 3)).as_matrix()
    matrix[:3, 3] = random.uniform(-50, 50, 3)
    return matrix


def grid_of(code: str, *, oblique: bool = False, size: tuple[int, int, int] = (11, 9, 7)) -> Grid:
    """An anisotropic grid whose index axes run towards these sides of the patient."""
    from meddinov3.grid import DIRECTIONS

    direction = np.zeros((3, 3))
    for column, letter in enumerate(code):
        axis, sign = DIRECTIONS[letter]
        direction[axis, column] = sign
    if oblique:
        direction = Rotation.from_rotvec([0.2, -0.3, 0.15]).as_matrix() @ direction
    return Grid(size, (0.7, 0.9, 3.1), (-31.5, 12.25, 140.0), direction)
